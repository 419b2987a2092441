"""Words of a request -> the one region of the image that it names.

A request is ordinary text ("Describe the object in the top-right corner"). Case, blanks, hyphens
and punctuation do not matter; "topright", "top-right" and "Top  right" are the same. Its grammar:

    request   = text with no region: the full image | text with one region, named once or more often
    region    = corner | third | edge | center | full | box
    corner    = V H | H V              "top right", "right upper corner", "top corner on the left"
    third     = (V | H | C) "third"    "left third"; the middle third is upright, the full height
    edge      = V | H | V C | H C      "left", "left-hand side", "upper half", "top center"
    center    = C                      the middle half of both sides
    full      = ("whole" | "entire" | "full" | "complete") IMAGE
    box       = ["box"] ["(" | "["] left "," top "," right "," bottom [")" | "]"]
    V         = top, topmost, upper, uppermost, above | bottom, bottommost, lower, lowermost, below
    H         = left, leftmost, left-hand | right, rightmost, right-hand
    C         = center, centre, central, middle
    IMAGE     = image, picture, photo, scene, frame, view, ...

A box is four fractions of the image from 0 to 1, `0.5,0,1,0.5` being the top-right corner. A corner
is a quadrant and an edge is a half: a crop of a third of a 500-pixel photo would be blown up to the
encoder's 224 pixels from too little; who wants a third asks for one.

The same words occur in ordinary phrases, where they name no region:

- idioms ("right now", "the right color", "all right", "left behind", "what is left", "bottom line",
  "left arm", "from left to right", "the second dog from the left"); `_IDIOMS` is the list;
- a place by something other than the image: `V | H | C of X` and `above | below X` ("on top of the
  table", "left of the dog", "middle of the road"). A noun of place makes it a region all the same:
  "the left side of the street".

Two different regions in one request are an error, since the answer describes one crop.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pipeline.errors import PipelineError


@dataclass(frozen=True, slots=True)
class Region:
    """A named part of an image, its box in fractions of width and height."""

    name: str
    box: tuple[float, float, float, float]  # left, top, right, bottom


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

_CANONICAL = {
    **dict.fromkeys(("top", "topmost", "upper", "uppermost", "above"), "top"),
    **dict.fromkeys(("bottom", "bottommost", "lower", "lowermost", "below"), "bottom"),
    **dict.fromkeys(("left", "leftmost"), "left"),
    **dict.fromkeys(("right", "rightmost"), "right"),
    **dict.fromkeys(("center", "centre", "central", "middle"), "center"),
}


def _words_for(*names: str) -> str:
    return "|".join(word for word, name in _CANONICAL.items() if name in names)


_V = rf"(?:{_words_for('top', 'bottom')})"
_H = rf"(?:{_words_for('left', 'right')})"
_C = rf"(?:{_words_for('center')})"
_PLACE = r"(?:side|half|part|portion|area|region|section|edge|end|border|corner|quadrant|third)"
_IMAGE = r"(?:image|picture|photo|photograph|pic|scene|frame|shot|view|painting|drawing)"
# A position word with its noun, "left hand side", and what may stand between the two of a corner.
_NOUN = rf"(?: {_PLACE})?"
_MOST = r"(?: hand| most)?"
_JOIN = rf"{_NOUN}(?: (?:on|at|in|to) the)? "
# Not followed within three words by the image or another position: a place by some other thing.
_OTHER_THING = rf"(?!(?: \w+){{0,3}} (?:{_IMAGE}|{_V}|{_H}|{_C})\b)"
# Not the second word of a corner: "top left of the room" is the corner, "left of the room" is not.
_ALONE = "".join(rf"(?<!\b{word} )" for word in _words_for("top", "bottom", "left", "right").split("|"))
_BODY = r"(?:arm|leg|foot|feet|eye|ear|shoulder|knee|paw|wing|cheek|glove|shoe|sleeve)s?"
_DIRECTION = r"(?:turn(?:s|ed)?|faces|looks|points|goes|(?:turn|fac|look|point|go|mov|head|lean)ing)"

_IDIOMS = re.compile(
    r"\b(?:"
    + "|".join(
        (
            # right: correct, exactly, a right
            r"right (?:now|away|after|before|here|there|then|next|out|up|down)",
            r"right (?:behind|beside|beneath|under)",
            r"right (?:colou?r|answer|way|word|order|name|time|kind|direction|idea|angle)s?",
            r"(?:all|quite|exactly) right",
            r"(?:is|was|are) (?:this|that|it|he|she|they) right",
            rf"(?<!the ){_ALONE}right (?:at|in|on)(?= (?:the )?(?:very )?(?:{_V}|{_C}))",
            # left: departed, remaining
            r"left (?:behind|over|overs|alone|out|off|unattended)",
            rf"(?:what|who|which|nothing|anything|something|everything|much|many)"
            rf"(?: (?:is|are|was|were|has|have|s))? left(?! (?:hand|side|{_PLACE}))",
            r"(?:has|have|had|just|he|she|it|they|people) left",
            # of a body, a direction, a garment, a count
            rf"(?:left|right) (?:{_BODY}|hand(?:ed|er)|hands?(?! (?:{_PLACE}|{_V})))",
            rf"{_DIRECTION}(?: (?:to|towards?))?(?: the)? (?:left|right)",
            rf"(?:from )?(?:the )?(?:{_V}|{_H}) to (?:the )?(?:{_V}|{_H})(?! {_PLACE})",
            r"(?:her|his|their|my|your|tank|crop|bikini) (?:top|bottom)",
            rf"(?:first|second|third|fourth|fifth|last|next)(?: \w+){{0,2}} from the (?:{_V}|{_H})",
            # fixed expressions
            r"bottom line",
            r"top (?:hat|speed|secret|shelf|floor|notch|down|quality|priority)",
            r"(?:upper|lower) (?:case|class)",
            r"middle (?:aged?|class|school|name|finger|east)",
            r"(?:shopping|town|city|community) cent(?:er|re)",
            r"cent(?:er|re) stage",
            r"(?:from|seen|viewed|taken|as|see|mentioned|described|shown) (?:above|below)",
            r"above all",
            # a place by some other thing
            rf"on top(?! (?:{_H}|of(?: \w+){{0,3}} {_IMAGE}))(?: of)?",
            rf"{_ALONE}(?:{_V}|{_H}|{_C}) of{_OTHER_THING}",
            rf"(?:above|below) (?:the|an?|this|that|his|her|its|their|it|him|them){_OTHER_THING}",
        )
    )
    + r")\b"
)
# "a dog, right?": the one idiom that needs its punctuation.
_TAG_QUESTION = re.compile(r",\s*right\s*\?")
_FUSED = re.compile(r"\b(top|upper|bottom|lower)(left|right)\b|\b(left|right)(hand|top|bottom)\b")
# "the left of the whole image": the image is only what the region is a part of.
_OF_THE_WHOLE = re.compile(rf"\b(?:of|in|from|within) (?:the |this )?(?:whole|entire|full) (?={_IMAGE})")
_REGION = re.compile(
    rf"\b(?:"
    rf"(?P<third>{_V}|{_H}|{_C}){_MOST} third"
    rf"|(?P<v1>{_V}){_MOST}{_JOIN}(?P<h1>{_H})"
    rf"|(?P<h2>{_H}){_MOST}{_JOIN}(?P<v2>{_V})"
    rf"|(?P<edge>{_V}|{_H}){_MOST}(?: {_C})?"
    rf"|{_C} (?P<edge2>{_V}|{_H})"
    rf"|(?P<center>{_C})"
    rf"|(?P<full>(?:whole|entire|full|complete)(?: of)?(?: the| this)? {_IMAGE})"
    rf")\b"
)

_NUMBER = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+|nan|inf)(?:e[+-]?[0-9]+)?%?"
_BOX = re.compile(
    # `box(` holds a box whatever is in it; brackets or "box" make two numbers a box gone wrong;
    # bare numbers must be four, or all there is, since "1, 2" also occurs in ordinary text.
    rf"\bbox\([^()]*\)|\bbox\[[^\[\]]*\]"
    rf"|[(\[]\s*{_NUMBER}(?:\s*,\s*{_NUMBER})+\s*[)\]]"
    rf"|\bbox\s*[:=]?\s*[(\[]?\s*{_NUMBER}(?:\s*,\s*{_NUMBER})+"
    rf"|(?<![\w.]){_NUMBER}(?:\s*,\s*{_NUMBER}){{3,}}"
    rf"|^\s*{_NUMBER}(?:\s*,\s*{_NUMBER})+\s*$"
)
_AROUND_BOX = re.compile(r"box\s*[:=]?|[()\[\]]")


def parse(request: str) -> Region:
    """The region that a request names, the full image where it names none (grammar: see above).

    Raises PipelineError for an empty request, for two different regions and for a box that is none.
    """
    text = request.casefold()
    if not text.strip():
        raise PipelineError(f"the request is empty; write some words, or ask for {_what_can_be_asked()}.")
    found = {_parse_box(match.group()) for match in _BOX.finditer(text)}
    found.update(_named_regions(_BOX.sub(" | ", text)))
    if len(found) > 1:
        named = " and ".join(sorted(_in_words(region) for region in found))
        raise PipelineError(
            f"the request {request!r:.100} names more than one region: {named}; "
            f"ask for one of {_what_can_be_asked()}."
        )
    return found.pop() if found else REGIONS["full"]


def _named_regions(text: str) -> set[Region]:
    """The regions that lower-case text names in words. A `|` keeps its neighbours apart."""
    text = _TAG_QUESTION.sub(" | ", text)
    text = " ".join(re.findall(r"[^\W\d_]+|\|", text))
    text = _FUSED.sub(lambda match: " ".join(part for part in match.groups() if part), text)
    text = _OF_THE_WHOLE.sub("of the ", text)
    return {_region_of(match) for match in _REGION.finditer(_IDIOMS.sub("|", text))}


def _region_of(match: re.Match[str]) -> Region:
    words = {key: _CANONICAL.get(word, word) for key, word in match.groupdict().items() if word}
    if "third" in words:
        return REGIONS["middle third" if words["third"] == "center" else f"{words['third']} third"]
    if "full" in words:
        return REGIONS["full"]
    vertical = words.get("v1") or words.get("v2")
    if vertical:
        return REGIONS[f"{vertical}-{words.get('h1') or words.get('h2')}"]
    return REGIONS[words.get("edge") or words.get("edge2") or "center"]


def _parse_box(text: str) -> Region:
    try:
        numbers = [float(part) for part in _AROUND_BOX.sub("", text).split(",")]
    except ValueError:
        numbers = []
    match numbers:
        case [left, top, right, bottom] if 0 <= left < right <= 1 and 0 <= top < bottom <= 1:
            # Adding zero turns -0.0, which is allowed, into 0.0.
            return Region("box", (left + 0.0, top + 0.0, right, bottom))
    raise PipelineError(
        f"the box {text.strip()!r:.100} is not left, top, right, bottom in fractions of the image: "
        "four numbers from 0 to 1, left below right and top below bottom, such as 0.5,0,1,0.5."
    )


def _in_words(region: Region) -> str:
    return region.name if region.name in REGIONS else f"box {','.join(f'{x:g}' for x in region.box)}"


def _what_can_be_asked() -> str:
    return f"{', '.join(NAMES)}, or a box of four fractions such as 0.5,0,1,0.5"
