"""Captions of generated scenes against the truth, which is known."""

import re
from collections.abc import Collection, Sequence

from pipeline.captions import SceneObject

# How far before the shape its color may stand: "red circle", "red small circle".
_REACH = 2


def names_object(
    caption: str, shape: str, color: str, *, shapes: Collection[str], colors: Collection[str]
) -> tuple[bool, bool]:
    """Return whether a caption names the right shape, and the right color, in whole words.

    The shape is right when it is the only one of `shapes` in the caption (a plural `s` or `es` may
    follow). The color is judged where a shape is named, whichever shape it is: it is the last of
    `colors` within the two words before the shape word. It is right when it is the object's at
    every shape word. So the background may be named (`a red circle on a blue background`, `a circle
    over blue`), and a color named elsewhere (`a circle that is red`) does not count.
    """
    words = re.findall(r"\w+", caption.lower())
    singular = {form: s for s in shapes for form in (s, f"{s}s", f"{s}es")}
    named_shapes, named_colors = set(), set()
    for place, word in enumerate(words):
        if word in singular:
            before = reversed(words[max(0, place - _REACH) : place])
            named_shapes.add(singular[word])
            named_colors.add(next((other for other in before if other in colors), None))
    return named_shapes == {shape}, named_colors == {color}


def score_objects(
    captions: Sequence[tuple[str, SceneObject]], *, shapes: Collection[str], colors: Collection[str]
) -> dict[str, float]:
    """Score pairs of a caption and the one object that it should name, one pair at least.

    Returns the percentages of captions that name the right shape, the right color and both, rounded to four
    decimals, and the number of objects.
    """
    right = [
        names_object(caption, item.shape, item.color, shapes=shapes, colors=colors)
        for caption, item in captions
    ]

    def percent(rights: Sequence[bool]) -> float:
        return round(100 * sum(rights) / len(rights), 4)

    return {
        "shape_accuracy": percent([shape for shape, _ in right]),
        "color_accuracy": percent([color for _, color in right]),
        "both_accuracy": percent([shape and color for shape, color in right]),
        "objects": len(right),
    }
