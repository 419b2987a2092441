"""Regions of an image, and the requests, names and boxes that ask for them (docs/regions.md)."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.errors import PipelineError
from pipeline.regions.words import BOX, find_names


@dataclass(frozen=True, slots=True)
class Region:
    """A part of an image: its name and box, in fractions of width and height or in pixels."""

    name: str
    box: tuple[float, float, float, float]  # left, top, right, bottom
    pixels: bool = False

    def within(self, width: int, height: int) -> "Region":
        """Convert to fractions of an image of `width` x `height` pixels; PipelineError beyond its edges."""
        if not self.pixels:
            return self
        left, top, right, bottom = self.box
        if right > width or bottom > height:
            raise PipelineError(
                f"The box {self} reaches beyond the image of {width} x {height} pixels. "
                "Fix: give a box inside it."
            )
        return Region(self.name, (left / width, top / height, right / width, bottom / height))

    def __str__(self) -> str:
        box = ",".join(f"{value:g}" for value in self.box) + ("px" if self.pixels else "")
        return box if self.name == "box" else self.name


_BOXES = {
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
}
REGIONS: Mapping[str, Region] = {name: Region(name, box) for name, box in _BOXES.items()}
_WHOLE = (REGIONS["full"],)
_NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+|nan|inf)(?:e[+-]?\d+)?"
_VALUE = rf"{_NUMBER}(?:%|\s?(?:px|pixels?)\b)?"
_GAP = r"(?:\s*[,;]\s*|\s+)"
# What must be a box: numbers in brackets or behind "box", four numbers, or names ("x=10"), or alone.
_BOX = re.compile(
    rf"(?:\bb?box\([^()]*\)|\bb?box\[[^\[\]]*\]|[(\[]\s*{_VALUE}(?:{_GAP}{_VALUE})+\s*[)\]]"
    rf"|\b(?:b?box|rect)\b\W{{0,3}}{_VALUE}(?:{_GAP}{_VALUE})+|(?<![\w.]){_VALUE}(?:{_GAP}{_VALUE}){{3,}}"
    rf"|\b(?:[xywh]\d?|width|height)\s*[=:]\s*{_VALUE}.*|^[\W\dxywhp]*\d[\W\dxywhp]*$)(?:\s?(?:px|pixels?)\b)?"
)


def regions_from_request(request: str, otherwise: tuple[Region, ...] = _WHOLE) -> tuple[Region, ...]:
    """Find the regions that a request names, each once in its order; `otherwise` if it names no place.

    Raises PipelineError for an empty request, a place that is not one of the regions, and a wrong box.
    """
    text = request.casefold().replace(BOX, " ")
    if not text.strip():
        raise PipelineError(f"The request is empty. {region_help()}")
    boxes = iter([region_from_box(match.group()) for match in _BOX.finditer(text)])
    try:
        names = find_names(_BOX.sub(f" {BOX} ", text))
    except ValueError as error:
        raise PipelineError(f"The request {request!r:.100} is unclear: {error}. {region_help()}") from error
    return tuple(dict.fromkeys(next(boxes) if name == BOX else REGIONS[name] for name in names)) or otherwise


def region_from_request(request: str) -> Region:
    """Find the region that a request names; PipelineError also if it names several."""
    regions = regions_from_request(request)
    if len(regions) > 1:
        named = " and ".join(map(str, regions))
        raise PipelineError(f"{request!r:.100} names more than one region: {named}. {region_help()}")
    return regions[0]


def region_from_name(name: str) -> Region:
    """Find the one region of a name, of words or of a box; PipelineError also if they name no region."""
    if name not in REGIONS and not regions_from_request(name, otherwise=()):
        raise PipelineError(f"{name!r:.100} names no region. {region_help()}")
    return region_from_request(name)


def region_from_box(box: str | Sequence[float]) -> Region:
    """Make a region of a box: left, top, right, bottom, as text or numbers; PipelineError for any other.

    Numbers from 0 to 1 are fractions of the image; if one is above 1, or with "px", all are whole pixels.
    """
    text = box.casefold() if isinstance(box, str) else ",".join(f"{value}" for value in box)
    plain = re.sub(r"\s?(?:px|pixels?)\b|\bb?box\b\s*[:=]?|\brect\b|[()\[\]]", " ", text)
    numbers = [float(n) if re.fullmatch(_NUMBER, n) else math.nan for n in re.split(_GAP, plain.strip())]
    pixels = bool(re.search("px|pixel", text)) or max(numbers) > 1
    match numbers:
        case [left, top, right, bottom] if 0 <= left < right < math.inf and 0 <= top < bottom < math.inf:
            if not pixels or all(number.is_integer() for number in numbers):
                return Region("box", (left + 0.0, top + 0.0, right, bottom), pixels)  # + 0.0: -0.0 is allowed
    raise PipelineError(
        f"{text.strip()!r:.100} is not a box. A box is left,top,right,bottom, with left < right and top < "
        "bottom: four fractions (0.5,0,1,0.5) or four whole pixels (0,0,112,112)."
    )


def region_help() -> str:
    """Say what can be asked, for messages."""
    return f"Ask for {', '.join(REGIONS)}, or a box: 0.5,0,1,0.5 (fractions) or 0,0,112,112 (pixels)."
