"""How far scores would move with other images: the bootstrap over images (Efron 1979; Koehn 2004).

Images are drawn with replacement, as many as there are, and scored. The middle 95 % of the scores
are the interval. Two systems are compared on the same draws, which takes out what both find easy or hard.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.scores import SCORES, PerImageScores

# The middle 95 % of the bootstrap's values: `low` and `high`, rounded to four decimals.
Interval = dict[str, float]

ROUNDS = 1000
_SEED = 0
# Draws that are scored at a time: memory does not grow with ROUNDS times images.
_AT_A_TIME = 50


def intervals(scores: PerImageScores) -> dict[str, Interval]:
    """Return the 95 % interval of each score, by name."""
    return _intervals([scores.resample(draws) for draws in _draws(len(scores.image_ids))])


def difference_intervals(first: PerImageScores, second: PerImageScores) -> dict[str, Interval]:
    """Return the 95 % interval of each score's difference, first minus second, on the same draws of images.

    Where it contains 0, the two cannot be told apart on these images. Raises ValueError for other images.
    """
    if first.image_ids != second.image_ids:
        raise ValueError("the two systems captioned different images")
    draws = _draws(len(first.image_ids))
    return _intervals([first.resample(draw) - second.resample(draw) for draw in draws])


def share_interval(part: NDArray[np.number], total: NDArray[np.integer]) -> Interval:
    """Return the 95 % interval of a share in per cent: the sum of `part` by that of `total`, both `[images]`.

    `total` counts what an image has, such as questions. A draw without any of them counts as 0.
    """
    samples = [100 * (draws @ part) / np.maximum(draws @ total, 1) for draws in _draws(len(total))]
    return _interval(np.concatenate(samples))


def _draws(images: int) -> Iterator[NDArray[np.int64]]:
    """Yield how often each image is in each draw: `[draws, images]`, the same for equal numbers of images."""
    rng = np.random.default_rng(_SEED)
    for _ in range(0, ROUNDS, _AT_A_TIME):
        drawn = rng.integers(0, images, size=(_AT_A_TIME, images))
        yield np.stack([np.bincount(draw, minlength=images) for draw in drawn])


def _intervals(samples: list[NDArray[np.float64]]) -> dict[str, Interval]:
    columns = np.concatenate(samples).T  # [6, draws]
    return {name: _interval(column) for name, column in zip(SCORES, columns, strict=True)}


def _interval(samples: NDArray[np.float64]) -> Interval:
    low, high = np.percentile(samples, [2.5, 97.5]).round(4) + 0.0  # no -0.0
    return {"low": float(low), "high": float(high)}
