"""The least work there is: two operations a weight and position, forward, and as many for the gradient."""

from dataclasses import dataclass

# CLIP ViT-B/32: 12 layers of 4 x 768 x 768 + 2 x 768 x 3072, and the patch embedding, on 50 positions.
VISION_FLOP = 2 * 50 * (12 * (4 * 768**2 + 2 * 768 * 3072) + 768 * 3 * 32**2)
_VISION_WIDTH, _HIDDEN = 768, 2048


@dataclass(frozen=True)
class LanguageShape:
    """Dimensions of a Llama: those that its work follows from."""

    layers: int
    width: int
    keys: int  # width of keys and of values
    feed_forward: int
    vocabulary: int

    @property
    def layer_weights(self) -> int:
        """Of all layers: query, key, value, output; gate, up, down."""
        attention = 2 * self.width * (self.width + self.keys)
        return self.layers * (attention + 3 * self.width * self.feed_forward)

    @property
    def head_weights(self) -> int:
        """Of the head."""
        return self.vocabulary * self.width

    def layers_flop(self, positions: float) -> float:
        """Of the layers, forward and the gradient of their input."""
        return 4.0 * positions * self.layer_weights

    def head_flop(self, labels: float) -> float:
        """Of the head where something is predicted, forward and the gradient of its input."""
        return 4.0 * labels * self.head_weights

    def attention_flop(self, pairs: float) -> float:
        """Of `pairs` of positions, one attending to the other: two products forward, four for gradients."""
        return 2.0 * 6 * pairs * self.width * self.layers

    def projector_flop(self, tokens: float) -> float:
        """Of the projector: forward, gradients of both weights, and of the input of the second."""
        first, second = _VISION_WIDTH * _HIDDEN, _HIDDEN * self.width
        return 2.0 * tokens * (2 * (first + second) + second)


SMOLLM2_135M = LanguageShape(30, 576, 192, 1536, 49_152)
LLAMA_1B = LanguageShape(16, 2048, 512, 8192, 128_256)


def packed_pairs(prefix: int, captions: list[int]) -> float:
    """Pairs that may attend in one row: the prefix to itself, each caption to the prefix and to itself."""
    return _causal(prefix) + sum(length * prefix + _causal(length) for length in captions)


def _causal(length: int) -> float:
    return length * (length + 1) / 2
