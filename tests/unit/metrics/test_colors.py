"""Color words in captions: `pytest tests/unit/metrics/test_colors.py`."""

import pytest

from pipeline.metrics.colors import score_colors


@pytest.mark.parametrize(
    ("caption", "references", "precision", "counts"),
    [
        # The caption names red and blue, the references red and brown.
        ("a red dog with a blue ball", ["A Red dog.", "A brown dog runs."], 50, (2, 2)),
        # Once an image, and as a whole word.
        ("a red, red bedspread is reddish", ["red", "red again"], 100, (1, 1)),
        # Joined by a hyphen or a slash both are named.
        ("a black-and-white dog", ["a black/white dog in blue-green water"], 100, (2, 4)),
        ("a grey cat", ["a gray cat"], 100, (1, 1)),
        ("a dog", ["a dog"], 0, (0, 0)),
    ],
)
def test_a_color_is_right_where_any_reference_names_it(
    caption: str, references: list[str], precision: float, counts: tuple[int, int]
) -> None:
    scores = score_colors({"1": caption, "2": "a dog"}, {"1": references, "2": ["a cat"]})
    assert (scores["precision"], (scores["said"], scores["named"])) == (precision, counts)
