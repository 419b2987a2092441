"""Confidence intervals: `pytest tests/unit/metrics/test_bootstrap.py`."""

from math import sqrt

import pytest

from pipeline.metrics.bootstrap import difference_intervals, intervals
from pipeline.metrics.scores import SCORES, PerImageScores, measure

WORDS = ("a", "red", "dog", "runs", "on", "grass", "two", "men", "sit", "by", "water")


def half_right(images: int) -> PerImageScores:
    """Every second caption is the reference, the others have no word in common with theirs."""
    references = {str(i): [f"w{i} x{i} y{i} z{i}"] for i in range(images)}
    captions = {i: r[0] if int(i) % 2 else "entirely other words here" for i, r in references.items()}
    return measure(captions, references)


def test_the_interval_of_a_mean_is_that_of_the_binomial() -> None:
    # ROUGE-L is 100 or 0 here with probability 1/2: its mean over n images has the standard deviation
    # 50 / sqrt(n), and 95 % lie within 1.96 of them.
    images = 400
    all_intervals = intervals(half_right(images))
    assert list(all_intervals) == list(SCORES)
    deviation = 50 / sqrt(images)
    tolerance = 0.15 * deviation + 0.25
    assert all_intervals["rouge_l"]["low"] == pytest.approx(50 - 1.96 * deviation, abs=tolerance)
    assert all_intervals["rouge_l"]["high"] == pytest.approx(50 + 1.96 * deviation, abs=tolerance)
    assert intervals(half_right(images)) == all_intervals, "repeatable"


def test_a_pairing_sees_a_small_difference_that_two_intervals_do_not() -> None:
    # The second system is worse by one word in each image: always, though images differ widely.
    references = {str(i): [" ".join(f"{w}{i}" for w in WORDS[: 4 + i % 6])] for i in range(30)}
    first = measure({i: r[0] for i, r in references.items()}, references)
    second = measure({i: r[0].rsplit(" ", 1)[0] for i, r in references.items()}, references)
    assert difference_intervals(first, second)["rouge_l"]["low"] > 0


def test_other_images_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="different images"):
        difference_intervals(half_right(4), half_right(6))
