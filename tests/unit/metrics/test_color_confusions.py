"""Which colour is said instead of which: `pytest tests/unit/metrics/test_color_confusions.py`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.captions import SceneObject
from pipeline.metrics.color_confusions import (
    NONE,
    confusions_of_objects,
    confusions_with_references,
)
from pipeline.metrics.colors import BASIC_COLORS, score_colors


def test_what_was_missed_stands_beside_what_was_said_in_its_place() -> None:
    found = confusions_with_references(
        {"1": "a red dog", "2": "an orange dog", "3": "a dog", "4": "a red dog, white grass"},
        {"1": ["a red dog"], "2": ["a red dog", "a grey dog"], "3": ["a red dog"], "4": ["the red dog"]},
    )
    assert dict(found.counts) == {
        ("red", "red"): 2,
        ("red", "orange"): 1,
        ("gray", "orange"): 1,
        ("red", NONE): 1,
        (NONE, "white"): 1,
    }
    assert found.images == 4
    assert found.colors == ("red", "orange", "gray", "white")
    assert (found.precision("red"), found.recall("red")) == (100, 50)
    assert (found.precision("orange"), found.recall("orange")) == (0, None)
    assert (found.precision("gray"), found.recall("gray")) == (None, 0)


def test_the_colour_of_an_object_is_the_one_said_of_a_shape() -> None:
    def thing(color: str) -> SceneObject:
        return SceneObject("circle", color, "small", (0, 0, 1, 1))

    found = confusions_of_objects(
        [
            ("a red circle on gray", thing("red")),
            ("a blue square", thing("red")),
            ("something blue", thing("blue")),
        ],
        shapes={"circle", "square"},
        colors={"red", "blue", "gray", "mauve"},
    )
    assert dict(found.counts) == {("red", "red"): 1, ("red", "blue"): 1, ("blue", NONE): 1}
    assert found.colors == ("red", "blue")


def test_colours_beyond_the_basic_ones_stand_last() -> None:
    shown = [
        (f"a {c} ring", SceneObject("ring", c, "small", (0, 0, 1, 1))) for c in ("teal", "mauve", "white")
    ]
    found = confusions_of_objects(shown, shapes={"ring"}, colors={"teal", "mauve", "white"})
    assert found.colors == ("white", "mauve", "teal")


captions = st.lists(st.sampled_from((*BASIC_COLORS, "dog")), max_size=4).map(" ".join)


@given(st.lists(st.tuples(captions, st.lists(captions, min_size=1, max_size=3)), max_size=8))
def test_all_colours_together_have_the_shares_of_the_metrics(images: list[tuple[str, list[str]]]) -> None:
    predictions = {str(number): said for number, (said, _) in enumerate(images)}
    references = {str(number): named for number, (_, named) in enumerate(images)}
    found, whole = confusions_with_references(predictions, references), score_colors(predictions, references)
    assert (sum(found.said.values()), sum(found.meant.values())) == (whole.said, whole.named)
    right = sum(found.counts.get((color, color), 0) for color in found.colors)
    assert 100 * right / max(1, whole.said) == pytest.approx(whole.precision)
    assert 100 * right / max(1, whole.named) == pytest.approx(whole.recall)
    for color in found.colors:
        row = [found.counts.get((color, said), 0) for said in (*found.colors, NONE)]
        assert sum(row) >= found.meant.get(color, 0)
