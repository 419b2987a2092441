"""Captions of generated scenes against the truth, which is known."""

import re
from collections.abc import Collection, Mapping, Sequence

from pipeline.captions import SceneObject

Box = tuple[float, float, float, float]  # left, top, right, bottom

# How far before the shape its color may stand: "red circle", "red small circle".
_REACH = 2
_PLACE = re.compile(r"\b(?:(top|bottom) (left|right)|middle|center)\b")
# In which fractions of the image's width or height the center of an object must lie.
_EXTENTS = {
    **dict.fromkeys(("left", "top"), (0.0, 0.4)),
    **dict.fromkeys(("right", "bottom"), (0.6, 1.0)),
    "": (0.25, 0.75),  # the middle
}


def judge_caption(
    caption: str,
    item: SceneObject | None,
    *,
    shapes: Collection[str],
    colors: Collection[str],
    region: Box = (0.0, 0.0, 1.0, 1.0),
) -> dict[str, bool]:
    """Return whether a caption names an object's `shape`, its `color`, and its `place` if it names a place.

    Where there is no object, it is judged whether the caption is right that the image is `empty`: it is if it
    names no shape.

    Whole words count. The shape is right when it is the only one of `shapes` in the caption (a plural
    `s` or `es` may follow). The color is judged where a shape is named, whichever shape it is: it is
    the last of `colors` within the two words before the shape word. It is right when it is the object's
    at every shape word. So the background may be named (`a red circle on a blue background`, `a circle
    over blue`), and a color named elsewhere (`a circle that is red`) does not count. A place is a corner
    or the middle of `region`, the part of the image that was captioned.
    """
    words = re.findall(r"\w+", caption.lower())
    singular = {form: s for s in shapes for form in (s, f"{s}s", f"{s}es")}
    named_shapes, named_colors = set(), set()
    for position, word in enumerate(words):
        if word in singular:
            before = reversed(words[max(0, position - _REACH) : position])
            named_shapes.add(singular[word])
            named_colors.add(next((other for other in before if other in colors), None))
    if item is None:
        return {"empty": not named_shapes}
    judgment = {"shape": named_shapes == {item.shape}, "color": named_colors == {item.color}}
    places = _PLACE.findall(" ".join(words))
    if places:
        judgment["place"] = all(_lies_in(item.box, region, place) for place in places)
    return judgment


def score_judgments(judgments: Sequence[Mapping[str, bool]]) -> dict[str, float]:
    """Return what `judge_caption` says of captions of one object or none each; of no captions, nothing.

    The percentages of captions whose shape, color, and both are right, and the number of `objects`. Where
    captions name a place: their number `places`, and the percentage of these that is right. Where there is no
    object: the percentage of captions that name none, and their number `empties`.
    """

    def percent(rights: Sequence[bool]) -> float:
        return round(100 * sum(rights) / len(rights), 4)

    scores: dict[str, float] = {}
    if objects := [judgment for judgment in judgments if "shape" in judgment]:
        scores = {
            "shape_accuracy": percent([judgment["shape"] for judgment in objects]),
            "color_accuracy": percent([judgment["color"] for judgment in objects]),
            "both_accuracy": percent([judgment["shape"] and judgment["color"] for judgment in objects]),
            "objects": len(objects),
        }
    if empties := [judgment["empty"] for judgment in judgments if "empty" in judgment]:
        scores |= {"empty_accuracy": percent(empties), "empties": len(empties)}
    if places := [judgment["place"] for judgment in judgments if "place" in judgment]:
        scores |= {"place_accuracy": percent(places), "places": len(places)}
    return scores


def _lies_in(box: Box, region: Box, place: tuple[str, str]) -> bool:
    """Return whether the center of `box` lies in a corner (or, for empty words, the middle) of `region`."""
    vertical, horizontal = place
    for axis, word in enumerate((horizontal, vertical)):
        center = (box[axis] + box[axis + 2]) / 2
        fraction = (center - region[axis]) / (region[axis + 2] - region[axis])
        low, high = _EXTENTS[word]
        if not low <= fraction <= high:
            return False
    return True
