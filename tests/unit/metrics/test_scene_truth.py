"""Captions of scenes against the truth: `pytest tests/unit/metrics/test_scene_truth.py`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.captions import SceneObject
from pipeline.metrics.scene_truth import names_object, score_objects

SHAPES = ("circle", "square", "cross")
COLORS = ("red", "blue", "green")


@pytest.mark.parametrize(
    ("caption", "shape_is_right", "color_is_right"),
    [
        ("A red circle.", True, True),
        ("A red small circle", True, True),
        ("Small red circles", True, True),
        ("A red circle on a blue background", True, True),
        ("On blue there is a red circle", True, True),
        ("A red circle over blue", True, True),
        ("A red square", False, True),
        ("Red crosses", False, True),
        ("A red circle and a red square", False, True),
        ("A blue circle", True, False),
        ("A red and blue circle", True, False),
        ("A red circle and a blue circle", True, False),
        ("A circle", True, False),
        ("A circle that is red", True, False),
        ("A red very very small circle", True, False),
        ("A reddish semicircle", False, False),
        ("Something red", False, False),
        ("", False, False),
    ],
)
def test_a_red_circle(caption: str, shape_is_right: bool, color_is_right: bool) -> None:
    right = names_object(caption, "circle", "red", shapes=SHAPES, colors=COLORS)
    assert right == (shape_is_right, color_is_right)


@given(*[st.sampled_from(v) for v in (SHAPES, COLORS, SHAPES, COLORS, COLORS)])
def test_the_background_does_not_matter(
    shape: str, color: str, named: str, named_color: str, background: str
) -> None:
    caption = f"A {named_color} {named} on a {background} background."
    right = names_object(caption, shape, color, shapes=SHAPES, colors=COLORS)
    assert right == (shape == named, color == named_color)


def test_scores_are_rounded_percentages_of_the_objects() -> None:
    truth = [("circle", "red"), ("circle", "blue"), ("square", "blue")]
    pairs = [("a red circle", SceneObject(*look, size="small", box=(0, 0, 1, 1))) for look in truth]
    scores = score_objects(pairs, shapes=SHAPES, colors=COLORS)
    expected = {"shape_accuracy": 66.6667, "color_accuracy": 33.3333, "both_accuracy": 33.3333, "objects": 3}
    assert scores == expected
