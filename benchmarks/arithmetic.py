"""The least work there is: two operations a weight and position, forward, and as many for the gradient."""

# SmolLM2-135M: 30 layers of 576 x (576 + 192 + 192 + 576) + 3 x 576 x 1536.
LAYERS, WIDTH = 30, 576
LAYER_WEIGHTS = LAYERS * (WIDTH * (576 + 192 + 192 + 576) + 3 * WIDTH * 1536)
HEAD_WEIGHTS = 49_152 * WIDTH
# CLIP ViT-B/32: 12 layers of 4 x 768 x 768 + 2 x 768 x 3072, and the patch embedding, on 50 positions.
VISION_FLOP = 2 * 50 * (12 * (4 * 768**2 + 2 * 768 * 3072) + 768 * 3 * 32**2)
_PROJECTOR_IN, _PROJECTOR_OUT = 768 * 2048, 2048 * WIDTH


def language_flop(positions: float) -> float:
    """Of the layers, forward and the gradient of their input."""
    return 4.0 * positions * LAYER_WEIGHTS


def head_flop(labels: float) -> float:
    """Of the head where something is predicted, forward and the gradient of its input."""
    return 4.0 * labels * HEAD_WEIGHTS


def attention_flop(pairs: float) -> float:
    """Of `pairs` of positions of which one attends to the other: two products forward, four for gradients."""
    return 2.0 * 6 * pairs * WIDTH * LAYERS


def projector_flop(tokens: float) -> float:
    """Of the projector: forward, gradients of both weights, and of the input of the second."""
    return 2.0 * tokens * (2 * (_PROJECTOR_IN + _PROJECTOR_OUT) + _PROJECTOR_OUT)


def packed_pairs(prefix: int, captions: list[int]) -> float:
    """Pairs that may attend in one row: the prefix to itself, each caption to the prefix and to itself."""
    return _causal(prefix) + sum(length * prefix + _causal(length) for length in captions)


def _causal(length: int) -> float:
    return length * (length + 1) / 2
