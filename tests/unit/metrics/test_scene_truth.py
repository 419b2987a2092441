"""Captions of scenes against the truth: `pytest tests/unit/metrics/test_scene_truth.py`."""

import pytest

from pipeline.captions import SceneObject
from pipeline.metrics.scene_truth import Box, judge_caption, score_judgments

SHAPES = ("circle", "square", "cross")
COLORS = ("red", "blue", "green")


def judge(caption: str, shape: str, color: str, box: Box = (0, 0, 1, 1), **region: Box) -> dict[str, bool]:
    item = SceneObject(shape, color, "small", box)
    return judge_caption(caption, item, shapes=SHAPES, colors=COLORS, **region)


@pytest.mark.parametrize(
    ("caption", "shape_is_right", "color_is_right"),
    [
        ("A red circle.", True, True),
        ("Small red circles", True, True),
        ("A red circle on a blue background", True, True),
        ("On blue there is a red circle", True, True),
        ("A red square", False, True),
        ("Red crosses", False, True),
        ("A blue circle", True, False),
        ("A red and blue circle", True, False),
        ("A red circle and a blue circle", True, False),
        ("A circle", True, False),
        ("A red very very small circle", True, False),
        ("A reddish semicircle", False, False),
        ("", False, False),
    ],
)
def test_a_red_circle(caption: str, shape_is_right: bool, color_is_right: bool) -> None:
    judgment = judge(caption, "circle", "red")
    assert judgment == {"shape": shape_is_right, "color": color_is_right}


TOP_RIGHT = (0.6, 0.1, 0.8, 0.3)


@pytest.mark.parametrize(
    ("place", "box", "region", "right"),
    [
        ("in the top right corner", TOP_RIGHT, (0, 0, 1, 1), True),
        ("in the top left corner", TOP_RIGHT, (0, 0, 1, 1), False),
        ("in the Top-Right corner", TOP_RIGHT, (0, 0, 1, 1), True),
        ("in the middle", (0.2, 0.3, 0.7, 0.8), (0, 0, 1, 1), True),
        # Within the part of the image that was captioned.
        ("in the middle", TOP_RIGHT, (0.4, 0, 1, 0.4), True),
        ("in the top left corner", TOP_RIGHT, (0.6, 0.1, 1, 1), True),
        # Two places, or none.
        ("in the top right corner and in the middle", TOP_RIGHT, (0, 0, 1, 1), False),
        ("left of the background", TOP_RIGHT, (0, 0, 1, 1), None),
    ],
)
def test_a_place_is_judged_where_it_is_named(place: str, box: Box, region: Box, right: bool | None) -> None:
    """A yellow ring in the top left corner was called right though it was in the top right corner."""
    assert judge(f"A red circle is {place}.", "circle", "red", box, region=region).get("place") == right


def test_scores_are_rounded_percentages_of_the_captions() -> None:
    judgments = [
        {"shape": True, "color": True, "place": True},
        {"shape": True, "color": False, "place": False},
        {"shape": False, "color": False},
    ]
    scores = {"shape_accuracy": 66.6667, "color_accuracy": 33.3333, "both_accuracy": 33.3333, "objects": 3}
    assert score_judgments(judgments[2:]) == {**dict.fromkeys(scores, 0), "objects": 1}
    assert score_judgments(judgments) == {**scores, "place_accuracy": 50, "places": 2}
    nothing = [{"empty": True}, {"empty": False}]
    assert score_judgments(nothing) == {"empty_accuracy": 50, "empties": 2}
    assert score_judgments([*judgments, *nothing]).items() >= score_judgments(judgments).items()


@pytest.mark.parametrize(
    ("caption", "right"),
    [
        ("an empty red background", True),
        ("nothing is here", True),
        ("pink pink", True),
        ("two circles", False),
    ],
)
def test_of_nothing_a_caption_is_right_that_names_no_shape(caption: str, right: bool) -> None:
    assert judge_caption(caption, None, shapes=SHAPES, colors=COLORS) == {"empty": right}
