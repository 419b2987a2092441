"""Captions of scenes against the truth: `pytest tests/unit/metrics/test_scene_truth.py`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.captions import SceneObject
from pipeline.errors import PipelineError
from pipeline.metrics.scene_truth import SceneScores, names_object, score_objects

SHAPES = ("circle", "square", "cross")
COLORS = ("red", "blue", "green")


def thing(shape: str, color: str) -> SceneObject:
    return SceneObject(shape=shape, color=color, size="small", box=(0, 0, 1, 1))


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
    found = names_object(caption, "circle", "red", shapes=SHAPES, colors=COLORS)
    assert found == (shape_is_right, color_is_right)


def test_plurals_in_es_are_known() -> None:
    assert names_object("Red crosses", "cross", "red", shapes=SHAPES, colors=COLORS) == (True, True)


@given(*[st.sampled_from(v) for v in (SHAPES, COLORS, SHAPES, COLORS, COLORS)])
def test_the_background_does_not_matter(
    shape: str, color: str, said: str, said_color: str, background: str
) -> None:
    caption = f"A {said_color} {said} on a {background} background."
    found = names_object(caption, shape, color, shapes=SHAPES, colors=COLORS)
    assert found == (shape == said, color == said_color)


def test_scores_are_percentages_of_the_objects_and_rounded_in_the_dictionary() -> None:
    pairs = [
        ("a red circle", thing("circle", "red")),
        ("a red circle", thing("circle", "blue")),
        ("a red circle", thing("square", "red")),
        ("nothing", thing("square", "blue")),
    ]
    assert score_objects(pairs, shapes=SHAPES, colors=COLORS) == SceneScores(50.0, 50.0, 25.0, objects=4)
    thirds = SceneScores(100 / 3, 0.0, 0.0, objects=3).as_dict()
    assert (thirds["shape_accuracy"], thirds["both_accuracy"], thirds["objects"]) == (33.3333, 0.0, 3)


def test_no_object_is_an_error() -> None:
    with pytest.raises(PipelineError, match="no captions of known objects"):
        score_objects([], shapes=SHAPES, colors=COLORS)
