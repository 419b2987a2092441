"""Confidence intervals: `pytest tests/unit/metrics/test_bootstrap.py`."""

from math import erf, sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.metrics.bootstrap import difference_intervals, intervals
from pipeline.metrics.scores import SCORES, PerImageScores, measure

WORDS = ("a", "red", "dog", "runs", "on", "grass", "two", "men", "sit", "by", "water")

captions = st.lists(st.sampled_from(WORDS), min_size=4, max_size=8).map(" ".join)
corpora = st.lists(st.tuples(captions, st.lists(captions, min_size=1, max_size=3)), min_size=2, max_size=6)


def half_right(images: int) -> PerImageScores:
    """Every second caption is the reference, the others share nothing with theirs."""
    references = {str(i): [f"w{i} x{i} y{i} z{i}"] for i in range(images)}
    said = {i: of[0] if int(i) % 2 else "entirely other words here" for i, of in references.items()}
    return measure(said, references)


@given(corpora)
@settings(max_examples=25)
def test_an_interval_is_ordered_and_repeatable(corpus: list[tuple[str, list[str]]]) -> None:
    measured = measure(
        {str(i): said for i, (said, _) in enumerate(corpus)},
        {str(i): written for i, (_, written) in enumerate(corpus)},
    )
    found = intervals(measured)
    assert list(found) == list(SCORES)
    assert all(interval.low <= interval.high for interval in found.values())
    assert intervals(measured) == found


def test_the_interval_of_a_mean_is_that_of_the_binomial() -> None:
    # ROUGE-L is 100 or 0 here with probability 1/2: its mean over n images has the standard deviation
    # 50 / sqrt(n), and 95 % lie within 1.96 of them.
    images = 400
    found = intervals(half_right(images))["rouge_l"]
    deviation = 50 / sqrt(images)
    assert erf(1.96 / sqrt(2)) == pytest.approx(0.95, abs=1e-3)
    assert found.low == pytest.approx(50 - 1.96 * deviation, abs=0.15 * deviation + 0.25)
    assert found.high == pytest.approx(50 + 1.96 * deviation, abs=0.15 * deviation + 0.25)


def test_where_all_captions_are_right_there_is_nothing_to_vary() -> None:
    references = {str(i): [f"w{i} x{i} y{i} z{i}"] for i in range(5)}
    found = intervals(measure({i: of[0] for i, of in references.items()}, references))
    for name in ("bleu_1", "bleu_4", "rouge_l"):
        assert (found[name].low, found[name].high) == pytest.approx((100, 100))


def test_a_system_is_not_distinguishable_from_itself() -> None:
    measured = half_right(20)
    found = difference_intervals(measured, measured)
    assert all(interval.low == interval.high == 0 for interval in found.values())


def test_a_pairing_sees_a_small_difference_that_two_intervals_do_not() -> None:
    # The second system is worse by one word in each image: always, though images differ widely.
    references = {str(i): [" ".join(f"{w}{i}" for w in WORDS[: 4 + i % 6])] for i in range(30)}
    first = measure({i: of[0] for i, of in references.items()}, references)
    second = measure({i: of[0].rsplit(" ", 1)[0] for i, of in references.items()}, references)
    assert difference_intervals(first, second)["rouge_l"].low > 0


def test_other_images_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="different images"):
        difference_intervals(half_right(4), half_right(6))
