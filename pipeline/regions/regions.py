"""A request in words -> the regions of the image that it names.

A request is ordinary text ("Describe the object in the top-right corner"); `region_words` has the
grammar of its words. Beside words it may hold boxes:

    box       = ["box"] ["(" | "["] left "," top "," right "," bottom [")" | "]"] ["px"]

with the image's top left corner as the origin. Numbers from 0 to 1 are fractions of the image,
`0.5,0,1,0.5` being the top-right corner. If one is above 1, or "px" stands behind them, all are pixels
and whole: `0,0,320,240`, `0,0,1,1px`. So `0,0,1,1` is the full image, never a pixel.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from pipeline.errors import PipelineError
from pipeline.regions.words import BOX, UnclearError, find_mentions


@dataclass(frozen=True, slots=True)
class Region:
    """A named part of an image: its box in fractions of width and height, or in pixels."""

    name: str
    box: tuple[float, float, float, float]  # left, top, right, bottom
    pixels: bool = False

    def within(self, width: int, height: int) -> "Region":
        """The same region of an image of `width` x `height` pixels, in fractions.

        Raises PipelineError for pixels that this image does not have.
        """
        if not self.pixels:
            return self
        left, top, right, bottom = self.box
        if right > width or bottom > height:
            raise PipelineError(
                f"the box {self} reaches beyond the image of {width} x {height} pixels; give a box inside it."
            )
        return Region(self.name, (left / width, top / height, right / width, bottom / height))

    def __str__(self) -> str:
        if self.name != BOX_NAME:
            return self.name
        return ",".join(f"{value:g}" for value in self.box) + ("px" if self.pixels else "")


BOX_NAME = "box"
REGIONS: Mapping[str, Region] = MappingProxyType(
    {
        name: Region(name, box)
        for name, box in {
            "full": (0.0, 0.0, 1.0, 1.0),
            "top-left": (0.0, 0.0, 0.5, 0.5),
            "top-right": (0.5, 0.0, 1.0, 0.5),
            "bottom-left": (0.0, 0.5, 0.5, 1.0),
            "bottom-right": (0.5, 0.5, 1.0, 1.0),
            "top": (0.0, 0.0, 1.0, 0.5),
            "bottom": (0.0, 0.5, 1.0, 1.0),
            "left": (0.0, 0.0, 0.5, 1.0),
            "right": (0.5, 0.0, 1.0, 1.0),
            "center": (0.25, 0.25, 0.75, 0.75),
            "left third": (0.0, 0.0, 1 / 3, 1.0),
            "middle third": (1 / 3, 0.0, 2 / 3, 1.0),
            "right third": (2 / 3, 0.0, 1.0, 1.0),
            "top third": (0.0, 0.0, 1.0, 1 / 3),
            "bottom third": (0.0, 2 / 3, 1.0, 1.0),
        }.items()
    }
)
NAMES: tuple[str, ...] = tuple(REGIONS)

_NUMBER = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+|nan|inf)(?:e[+-]?[0-9]+)?(?:%|\s?(?:px|pixels?)\b)?"
_BOX = re.compile(
    # `box(` holds a box whatever is in it; brackets or "box" make two numbers a box gone wrong;
    # bare numbers must be four, or all there is, since "1, 2" also occurs in ordinary text.
    rf"(?:\bbox\([^()]*\)|\bbox\[[^\[\]]*\]"
    rf"|[(\[]\s*{_NUMBER}(?:\s*,\s*{_NUMBER})+\s*[)\]]"
    rf"|\bbox\s*[:=]?\s*[(\[]?\s*{_NUMBER}(?:\s*,\s*{_NUMBER})+"
    rf"|(?<![\w.]){_NUMBER}(?:\s*,\s*{_NUMBER}){{3,}}"
    rf"|^\s*{_NUMBER}(?:\s*,\s*{_NUMBER})+\s*$)(?:\s?(?:px|pixels?)\b)?"
)
_AROUND_BOX = re.compile(r"box\s*[:=]?|[()\[\]]")
_PIXELS = re.compile(r"\s?(?:px|pixels?)\b")


def parse(request: str) -> Region:
    """The region that a request names, the full image where it names none.

    Raises PipelineError for an empty request, for two different regions, for words that name a place
    which cannot be told, and for a box that is none.
    """
    found = dict.fromkeys(region for region, _ in _find(request))
    if len(found) > 1:
        named = " and ".join(str(region) for region in found)
        raise PipelineError(
            f"the request {request!r:.100} names more than one region: {named}; "
            f"ask for one of {what_can_be_asked()}."
        )
    return next(iter(found), REGIONS["full"])


def parse_all(request: str) -> tuple[Region, ...]:
    """The regions that a request names, in its order, each once: "compare the left and the right".

    Raises PipelineError where `parse` does, except that several regions may stand in a list. Regions that
    no word joins ("the middle of the left half") are refused: they do not name two regions, but one
    inside another.
    """
    found: dict[Region, None] = {}
    for region, joined in _find(request):
        if found and not joined and region not in found:
            raise PipelineError(
                f"the request {request!r:.100} names {' and '.join(map(str, found))} and then {region}, "
                "with no word between them that makes a list, such as 'and'; regions inside regions "
                f"cannot be asked for, only {what_can_be_asked()}."
            )
        found[region] = None
    return tuple(found) or (REGIONS["full"],)


def named(name: str) -> Region:
    """The region that a name, words or a box stand for; unlike a request, they must name one.

    Raises PipelineError where `parse` does, and where no region is named.
    """
    if name in REGIONS:
        return REGIONS[name]
    if not _find(name):
        raise PipelineError(f"{name!r:.100} names no region; allowed: {what_can_be_asked()}.")
    return parse(name)


def box(values: Sequence[float], pixels: bool = False) -> Region:
    """The region of a box: left, top, right, bottom, in fractions of the image or in pixels.

    Numbers from 0 to 1 are fractions; if one is above 1, or with `pixels`, all are pixels and whole.
    Raises PipelineError for a box that is none.
    """
    text = ",".join(f"{value:g}" for value in values) + ("px" if pixels else "")
    return _box([float(value) for value in values], pixels, text)


def named_box(text: str) -> Region:
    """The region of a box in text: "0.5,0,1,0.5". Raises PipelineError for anything else."""
    return _parse_box(text)


def what_can_be_asked() -> str:
    """All regions, for messages."""
    return (
        f"{', '.join(NAMES)}, or a box (left,top,right,bottom) in fractions such as 0.5,0,1,0.5 or in "
        "pixels such as 0,0,320,240"
    )


def _find(request: str) -> list[tuple[Region, bool]]:
    """Each region with whether a word joins it to the one before."""
    text = request.casefold().replace(BOX, " ")
    if not text.strip():
        raise PipelineError(f"the request is empty; write some words, or ask for {what_can_be_asked()}.")
    boxes = iter([_parse_box(match.group()) for match in _BOX.finditer(text)])
    try:
        mentions = find_mentions(_BOX.sub(f" {BOX} ", text))
    except UnclearError as error:
        raise PipelineError(
            f"the request {request!r:.100} is unclear: {error}; ask for {what_can_be_asked()}."
        ) from error
    return [(next(boxes) if m.name == BOX else REGIONS[m.name], m.joined) for m in mentions]


def _parse_box(text: str) -> Region:
    plain, pixels = _PIXELS.subn("", text)
    try:
        numbers = [float(part) for part in _AROUND_BOX.sub("", plain).split(",")]
    except ValueError:
        numbers = []
    return _box(numbers, pixels > 0, text.strip())


def _box(numbers: Sequence[float], pixels: bool, text: str) -> Region:
    match numbers:
        case [left, top, right, bottom] if 0 <= left < right < math.inf and 0 <= top < bottom < math.inf:
            pixels = pixels or max(right, bottom) > 1
            if not pixels or all(number == round(number) for number in numbers):
                # Adding zero turns -0.0, which is allowed, into 0.0.
                return Region(BOX_NAME, (left + 0.0, top + 0.0, right, bottom), pixels)
    raise PipelineError(
        f"the box {text!r:.100} is not left, top, right, bottom: four fractions of the image from 0 to 1, "
        "such as 0.5,0,1,0.5, or four whole numbers of pixels, such as 0,0,320,240; left below right and "
        "top below bottom."
    )
