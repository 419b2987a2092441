"""Calculated times of the real run's stages on some cards: the least work there is over what a card can do.

Nothing is measured. Rates are the makers' (dense, float16 or bfloat16 products summed in float32; float32),
of which `SHARE` is assumed to be reached. Reading images, decoding captions and loading models come on top.
"""

import click

from benchmarks.arithmetic import LLAMA_1B
from benchmarks.llama_1b import CAPTION, NUM_TOKENS, PROMPT
from benchmarks.memory import CAPTIONS_OF_AN_IMAGE

SHARE = 1 / 3
# TFLOP/s: tensor cores, float32.
CARDS = {"T4": (65.0, 8.1), "RTX 3070": (40.6, 20.3), "RTX 4060": (30.2, 15.1)}
IMAGES, TRAIN_IMAGES = 8000, 6000
VIT_L14_TOKENS = 256


@click.command()
def main() -> None:
    """Print the calculated time of encoding and of an epoch for each profile of the real run.

    \b
    Example: python -m benchmarks.times
    """
    click.echo(table(), nl=False)


def table() -> str:
    """The times as a table of Markdown."""
    lines = [f"| calculated | work | {' | '.join(CARDS)} |", "|---|---|" + "---|" * len(CARDS)]
    for name, flop in _encoding().items():
        lines.append(_row(name, flop, [single for _, single in CARDS.values()]))
    for name, flop in _epochs().items():
        lines.append(_row(name, flop, [half for half, _ in CARDS.values()]))
    return "\n".join([*lines, ""])


def _encoding() -> dict[str, float]:
    """FLOP of encoding all images (in float32, on every card)."""
    return {
        "`encode`, ViT-B/32": IMAGES * _vision_flop(layers=12, width=768, positions=50, patch=32),
        "`encode`, ViT-L/14": IMAGES * _vision_flop(layers=24, width=1024, positions=257, patch=14),
    }


def _epochs() -> dict[str, float]:
    """FLOP of an epoch of training."""
    return {
        "an epoch of `flickr8k`, `-16gb`, `-lora`": _epoch_flop(NUM_TOKENS, packed=True),
        "an epoch of `flickr8k-vit-l14`": _epoch_flop(VIT_L14_TOKENS, packed=True),
        "an epoch of `flickr8k-report`": _epoch_flop(NUM_TOKENS, packed=False),
    }


def _vision_flop(layers: int, width: int, positions: int, patch: int) -> float:
    """Two operations a weight and position; attention's own products are left out (4 % in ViT-L/14)."""
    return 2.0 * positions * (layers * 12 * width**2 + width * 3 * patch**2)


def _epoch_flop(tokens: int, packed: bool) -> float:
    """Four operations a weight and position: a forward pass, and the gradient of its input."""
    labels = CAPTIONS_OF_AN_IMAGE * (len(CAPTION) + 1)
    prefixes = 1 if packed else CAPTIONS_OF_AN_IMAGE
    positions = prefixes * PROMPT.prefix_length(tokens) + labels
    return TRAIN_IMAGES * (LLAMA_1B.layers_flop(positions) + LLAMA_1B.head_flop(labels))


def _row(name: str, flop: float, rates: list[float]) -> str:
    times = (_duration(flop / (rate * 1e12 * SHARE)) for rate in rates)
    return f"| {name} | {flop / 1e15:.2f} PFLOP | {' | '.join(times)} |"


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


if __name__ == "__main__":
    main()
