"""Colour words in captions: `pytest tests/unit/metrics/test_colors.py`."""

from pipeline.metrics.colors import score_colors


def test_a_colour_is_right_where_any_reference_names_it() -> None:
    found = score_colors(
        {"1": "a red dog with a blue ball", "2": "a green car"},
        {"1": ["A red dog.", "A brown dog runs."], "2": ["A car.", "A Green car"]},
    )
    # Said: red, blue, green; named: red, brown, green.
    assert (found.said, found.named) == (3, 3)
    assert found.precision == found.recall == 100 * 2 / 3


def test_a_colour_counts_once_an_image_and_as_a_whole_word() -> None:
    found = score_colors({"1": "a red, red bedspread is reddish"}, {"1": ["red", "red again"]})
    assert (found.said, found.named, found.precision, found.recall) == (1, 1, 100, 100)


def test_colours_joined_by_a_hyphen_or_a_slash_are_both_named() -> None:
    found = score_colors({"1": "a black-and-white dog"}, {"1": ["a black/white dog in blue-green water"]})
    assert (found.said, found.named, found.precision) == (2, 4, 100)


def test_grey_is_gray() -> None:
    assert score_colors({"1": "a grey cat"}, {"1": ["a gray cat"]}).precision == 100


def test_without_colours_all_shares_are_zero() -> None:
    found = score_colors({"1": "a dog"}, {"1": ["a dog"]})
    assert found.as_dict() == {"precision": 0, "recall": 0, "said": 0, "named": 0}
