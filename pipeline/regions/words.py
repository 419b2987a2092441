"""The words of a request that name regions, in the order in which they stand.

The grammar, over words alone (case, blanks, hyphens and other punctuation do not matter; "topright",
"top-right" and "Top  right" are the same):

    region    = corner | third | edge | center | full
    corner    = V H | H V              "top right", "right upper corner", "top corner on the left"
    third     = (V | H | C) "third"    "left third"; the middle third is upright, the full height
    edge      = V | H | V C | H C      "left", "left-hand side", "upper half", "top center"
    center    = C                      the middle half of both sides
    full      = ("whole" | "entire" | "full" | "complete") IMAGE
    V         = top, topmost, upper, uppermost, above | bottom, bottommost, lower, lowermost, below
    H         = left, leftmost, left-hand | right, rightmost, right-hand
    C         = center, centre, central, middle
    IMAGE     = image, picture, photo, scene, frame, view, ...

    list      = region (join region)+
    join      = "," ";" "&" "/" and, or, versus, vs, with, than, then, plus
    shared    = V H ("and" H)+ "corners" | V ("and" V)+ H "corners" | (V | H | C) ("and" ...)+ "thirds"
              | ("all" | "each" | "every" | "the four" | "all four") "corners"

A corner is a quadrant and an edge is a half: a crop of a third of a 500-pixel photo would be blown up to
the encoder's 224 pixels from too little; who wants a third asks for one.

The same words occur in ordinary phrases, where they name no region:

- idioms ("right now", "the right color", "all right", "left behind", "what is left", "bottom line",
  "left arm", "from left to right", "the second dog from the left"); `_IDIOMS` is the list;
- a place by something other than the image: `V | H | C of X` and `above | below X` ("on top of the
  table", "left of the dog", "middle of the road"). A noun of place makes it a region all the same:
  "the left side of the street".

What names a place that is none of these, or one of several ("the corner", "the top corner", "the left
quarter", "the north side", "top left and right"), is unclear: a guess would caption the wrong crop.
"""

import re
from dataclasses import dataclass

# Stands for a box among the words; no text that reaches the patterns holds it otherwise.
BOX = "\x00"


class UnclearError(ValueError):
    """Words that name a place, but not one that can be told; the message quotes them and says why."""


@dataclass(frozen=True, slots=True)
class Mention:
    """A region's name, `BOX` for a box; `joined` unless it follows another without a joining word."""

    name: str
    joined: bool


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
            rf"(?:left|right) (?:{_BODY}|hand(?:ed|er)|hands?(?! (?:{_PLACE}|{_V}|{_C})))",
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
            r"street corners?",
            r"corner(?: |)(?:shop|store|kick|stone)s?",
            r"a?round (?:the |a )?corner",
            r"(?:from|seen|viewed|taken|as|see|mentioned|described|shown) (?:above|below)",
            r"above all",
            # a place by some other thing
            rf"on top(?! (?:{_H}|of(?: \w+){{0,3}} {_IMAGE}))(?: of)?",
            rf"{_ALONE}(?:{_V}|{_H}|{_C}|corners?) of{_OTHER_THING}",
            rf"(?:above|below) (?:the|an?|this|that|his|her|its|their|it|him|them){_OTHER_THING}",
        )
    )
    + r")\b"
)
# "a dog, right?": the one idiom that needs its punctuation.
_TAG_QUESTION = re.compile(r",\s*right\s*\?")
_FUSED = re.compile(r"\b(top|upper|bottom|lower)(left|right)\b|\b(left|right)(hand|top|bottom)\b")
# "the left of the whole image": the image is only what the region is a part of.
_OF_THE_WHOLE = re.compile(
    rf"\b((?:{_V}|{_H}|{_C}){_MOST}{_NOUN}) (?:of|in|from|within) (?:the |this )?(?:whole|entire|full) "
    rf"(?={_IMAGE})"
)
_REGION = re.compile(
    rf"\b(?:"
    rf"(?P<third>{_V}|{_H}|{_C}){_MOST} third"
    rf"|(?P<v1>{_V}){_MOST}{_JOIN}(?P<h1>{_H})"
    rf"|(?P<h2>{_H}){_MOST}{_JOIN}(?P<v2>{_V})"
    rf"|(?P<edge>{_V}|{_H}){_MOST}(?: {_C})?"
    rf"|{_C} (?P<edge2>{_V}|{_H})"
    rf"|(?P<center>{_C})"
    rf"|(?P<full>(?:whole|entire|full|complete)(?: of)?(?: the| this)? {_IMAGE})"
    rf")\b|(?P<box>{BOX})"
)

# Words that several regions share are given to each: "left and right thirds".
_AND = r"(?: (?:,|&|/|and|or|versus|vs))+"


def _several(position: str) -> str:
    return rf"{position}{_MOST}(?:{_AND} {position}{_MOST})+"


_ANY = rf"(?:{_V}|{_H}|{_C})"
_ALL_CORNERS = re.compile(
    r"\b(?:(?:all|each|every)(?: one)?(?: of)?(?: the)?(?: four)?|(?:the )?four) corners?\b"
)
_SHARED_THIRD = re.compile(rf"\b({_several(_ANY)}) thirds?\b")
_SHARED_V = re.compile(rf"\b({_V}){_MOST} ({_several(_H)}) corners?\b")
_SHARED_H = re.compile(rf"\b({_several(_V)}) ({_H}){_MOST} corners?\b")
_POSITION = re.compile(rf"\b{_ANY}\b")
# "compare the left to the right", which otherwise is a direction.
_COMPARED = re.compile(rf"\b(compar\w+ (?:the )?{_ANY}{_MOST}{_NOUN}) to\b")
_JOINING = re.compile(r"[,;&/]|\b(?:and|or|versus|vs|with|than|then|plus|from)\b")

# "top and bottom left": two corners, or a half and a corner?
_TWO_READINGS = re.compile(
    rf"\b(?:{_V}{_MOST} (?:and|or) {_V}{_MOST} {_H}|{_V}{_MOST} {_H}{_MOST} (?:and|or) {_H})\b(?! {_PLACE})"
)
# What may not follow an edge or the centre, and what names a place by itself.
_SMALLER = re.compile(r" (?:corners?|(?:\w+ )?(?:quarters?|fifths?|sixths?|eighths?|tenths?|thirds?))\b")
_NO_PLACE = re.compile(
    rf"\b(?:(?:first|second|last|one|two|other|another|all|each|every)(?: three)? thirds?"
    rf"|(?:(?:north|south)(?: ?(?:east|west))?|east|west)(?:ern)?{_MOST} {_PLACE})\b"
)
_CORNER_NOUN = re.compile(r"\b(?:corners?|quadrants?)\b")


def find_mentions(text: str) -> list[Mention]:
    """The regions that lower-case text names in words, and its boxes (`BOX`), as they stand in it.

    Raises UnclearError for words that name a place which cannot be told.
    """
    text = _TAG_QUESTION.sub(" | ", text)
    text = " ".join(re.findall(rf"[^\W\d_]+|[|,;&/{BOX}]", text))
    text = _FUSED.sub(lambda match: " ".join(part for part in match.groups() if part), text)
    text = _COMPARED.sub(r"\1 with", _OF_THE_WHOLE.sub(r"\1 of the ", text))
    text = _share_words(text)
    unclear = _TWO_READINGS.search(text)
    if unclear:
        raise UnclearError(f"{unclear.group()!r} can be read in two ways")
    text = _IDIOMS.sub("|", text)
    mentions: list[Mention] = []
    end, rest = 0, []
    for match in _REGION.finditer(text):
        between = text[end : match.start()]
        mentions.append(Mention(_name_of(match), not mentions or bool(_JOINING.search(between))))
        smaller = _SMALLER.match(text, match.end())
        if smaller and (match["edge"] or match["edge2"] or match["center"]):
            raise UnclearError(f"{match.group() + smaller.group()!r} is not one of the regions")
        rest.append(between)
        end = match.end()
    left_over = "|".join([*rest, text[end:]])
    unclear = _NO_PLACE.search(left_over)
    if not unclear and not any("-" in mention.name for mention in mentions):
        unclear = _CORNER_NOUN.search(left_over)
    if unclear:
        raise UnclearError(f"{unclear.group()!r} is not one of the regions")
    return mentions


def _share_words(text: str) -> str:
    """Give each region of a list the words that they share: "top left and right corners"."""
    text = _ALL_CORNERS.sub("top left and top right and bottom left and bottom right", text)

    def each(listed: str, phrase: str) -> str:
        return " and ".join(phrase.format(word) for word in _POSITION.findall(listed))

    text = _SHARED_THIRD.sub(lambda m: each(m[1], "{} third"), text)
    text = _SHARED_V.sub(lambda m: each(m[2], f"{m[1]} {{}}"), text)
    return _SHARED_H.sub(lambda m: each(m[1], f"{{}} {m[2]}"), text)


def _name_of(match: re.Match[str]) -> str:
    words = {key: _CANONICAL.get(word, word) for key, word in match.groupdict().items() if word}
    if "box" in words:
        return BOX
    if "third" in words:
        return "middle third" if words["third"] == "center" else f"{words['third']} third"
    if "full" in words:
        return "full"
    vertical = words.get("v1") or words.get("v2")
    if vertical:
        return f"{vertical}-{words.get('h1') or words.get('h2')}"
    return words.get("edge") or words.get("edge2") or "center"
