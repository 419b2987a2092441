"""The least work there is: two operations a weight and position, forward, and as many for the gradient.

Attention's own products and the projector are left out (below 3 % at these lengths), so figures of
utilisation that rest on these numbers are a little too low, for both sides.
"""

# SmolLM2-135M: 30 layers of 576 x (576 + 192 + 192 + 576) + 3 x 576 x 1536.
LAYER_WEIGHTS = 30 * (576 * (576 + 192 + 192 + 576) + 3 * 576 * 1536)
HEAD_WEIGHTS = 49_152 * 576
# CLIP ViT-B/32: 12 layers of 4 x 768 x 768 + 2 x 768 x 3072, and the patch embedding, on 50 positions.
VISION_FLOP = 2 * 50 * (12 * (4 * 768**2 + 2 * 768 * 3072) + 768 * 3 * 32**2)
