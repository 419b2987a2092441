"""Captions of generated scenes against the truth, which is known."""

import re
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass

from pipeline.captions import SceneObject
from pipeline.errors import PipelineError

# How far before the shape its colour may stand: "red circle", "red small circle".
_REACH = 2


@dataclass(frozen=True, slots=True)
class SceneScores:
    """Percent of captions that name the object's shape, its colour, and both."""

    shape_accuracy: float
    color_accuracy: float
    both_accuracy: float
    objects: int

    def as_dict(self) -> dict[str, float]:
        """The fields by name, rounded to four decimals: for metrics JSON."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def names_object(
    caption: str, shape: str, color: str, *, shapes: Collection[str], colors: Collection[str]
) -> tuple[bool, bool]:
    """Whether a caption names the right shape, and the right colour, in whole words.

    The shape is right when it is the only one of `shapes` in the caption (a plural `s` or `es` may
    follow). The colour is judged where a shape is named, whichever shape it is: it is the last of
    `colors` within the two words before the shape word. It is right when it is the object's at
    every shape word. So the background may be named (`a red circle on a blue background`, `a circle
    over blue`), and a colour said elsewhere (`a circle that is red`) does not count.
    """
    words = re.findall(r"\w+", caption.lower())
    singular = {form: s for s in shapes for form in (s, f"{s}s", f"{s}es")}
    places = [place for place, word in enumerate(words) if word in singular]
    named = {singular[words[place]] for place in places}
    said = {_last_color(words[max(0, place - _REACH) : place], colors) for place in places}
    return named == {shape}, said == {color}


def score_objects(
    captions: Sequence[tuple[str, SceneObject]],
    *,
    shapes: Collection[str],
    colors: Collection[str],
) -> SceneScores:
    """Score pairs of a caption and the one object that it should name."""
    if not captions:
        raise PipelineError("there are no captions of known objects to score.")
    named = [
        names_object(caption, thing.shape, thing.color, shapes=shapes, colors=colors)
        for caption, thing in captions
    ]

    def percent(right: int) -> float:
        return 100 * right / len(named)

    return SceneScores(
        shape_accuracy=percent(sum(shape for shape, _ in named)),
        color_accuracy=percent(sum(color for _, color in named)),
        both_accuracy=percent(sum(shape and color for shape, color in named)),
        objects=len(named),
    )


def _last_color(words: Sequence[str], colors: Collection[str]) -> str | None:
    return next((word for word in reversed(words) if word in colors), None)
