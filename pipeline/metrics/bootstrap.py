"""How far scores would move with other images: the bootstrap over images (Efron 1979; Koehn 2004).

Images are drawn with replacement, as many as there are, and scored. The middle 95 % of the scores
are the interval. Two systems are compared on the same draws, which takes out what both find easy or hard.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.scores import SCORES, PerImageScores

ROUNDS = 1000
_SEED = 0
# Draws that are scored at a time: memory does not grow with ROUNDS times images.
_AT_A_TIME = 50


@dataclass(frozen=True, slots=True)
class Interval:
    """The middle 95 % of the bootstrap's values."""

    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """The bounds, rounded to four decimals: for metrics JSON."""
        return {"low": round(self.low, 4), "high": round(self.high, 4)}

    def __str__(self) -> str:
        return f"{self.low:.2f} to {self.high:.2f}"


def intervals(scores: PerImageScores) -> dict[str, Interval]:
    """The 95 % interval of each score, by name."""
    samples = [scores.resample(draws) for draws in _draws(len(scores.image_ids))]
    return _intervals(np.concatenate(samples))


def difference_intervals(first: PerImageScores, second: PerImageScores) -> dict[str, Interval]:
    """The 95 % interval of each score's difference, first minus second, on the same draws of images.

    Where it holds 0 the two cannot be told apart on these images.
    """
    if first.image_ids != second.image_ids:
        raise ValueError("the two systems captioned different images")
    samples = [first.resample(draws) - second.resample(draws) for draws in _draws(len(first.image_ids))]
    return _intervals(np.concatenate(samples))


def _draws(images: int) -> Iterator[NDArray[np.int64]]:
    """How often each image is in each draw: `[draws, images]`, the same for the same number of images."""
    rng = np.random.default_rng(_SEED)
    for _ in range(0, ROUNDS, _AT_A_TIME):
        drawn = rng.integers(0, images, size=(_AT_A_TIME, images))
        yield np.stack([np.bincount(draw, minlength=images) for draw in drawn])


def _intervals(samples: NDArray[np.float64]) -> dict[str, Interval]:
    low, high = np.percentile(samples, [2.5, 97.5], axis=0)
    return {name: Interval(float(low[n]), float(high[n])) for n, name in enumerate(SCORES)}
