"""Characters as Stanford's tokenizer classes them: a caption's outline, one character for each of the text.

ASCII and the marks that the patterns of `token_patterns.py` name stand for themselves. Every other
character is replaced by one that stands for its class, so that the patterns need not list Unicode.
"""

import re
import unicodedata

LETTER = "é"
MARK = "ê"  # combining marks and HTML entities of letters: no part of hyphenated words
DIGIT = "0"
HYPHEN = "\u2010"  # the typographic ones; dropped where it stands alone
SYMBOL = "§"  # a separate token
BLANK = "\t"  # other than " " and the no-break space
NOTHING = "\uffff"  # dropped outside URLs, mail addresses and tags; parts what it stands between

# HTML entities that Stanford's tokenizer reads, and what they become. Those of letters it leaves as they are,
# but inside words. Until a caption's tokens are known, noncharacters of Unicode stand for them.
_LETTER_ENTITIES = {f"{vowel}{accent}" for vowel in "aeiou" for accent in ("acute", "grave", "uml")}
_SPELLED = {"amp": "&", "lt": "<", "gt": ">", "apos": "&apos;"} | {
    name: f"&{name};" for name in sorted(_LETTER_ENTITIES)
}
_STAND_INS = {name: chr(0xFDD0 + place) for place, name in enumerate(_SPELLED)}
APOSTROPHE_ENTITY = _STAND_INS["apos"]
_ENTITIES = {**_STAND_INS, "quot": '"', "nbsp": "\u00a0", "mdash": "\u2014", "ndash": "\u2014"}
_ENTITY = re.compile(f"&({'|'.join(_ENTITIES)});", re.IGNORECASE)
_SPELL_OUT = str.maketrans({"\u00ad": ""} | {_STAND_INS[name]: text for name, text in _SPELLED.items()})

# Characters that the patterns name, and those that Stanford's tokenizer reads as one of these.
_ALIKE = {
    **{mark: mark for mark in "\u2018\u2019\u201c\u201d\u00ab\u00bb\u2039\u203a\u2044\u00a0\u00ad\n"},
    **dict.fromkeys("\u201b\x91", "\u2018"),
    "\x92": "\u2019",
    "\x93": "\u201c",
    "\x94": "\u201d",
    **dict.fromkeys("\u058a\u2010\u2011", HYPHEN),
    **dict.fromkeys("²³¹⁰⁴⁵⁶⁷⁸⁹₀₁₂₃₄₅₆₇₈₉", "²"),
    **dict.fromkeys("\t\v\f\r", BLANK),
    **dict.fromkeys("¢£¤\x80€₠¼½¾⅓⅔\u2013\u2014\u2015\x96\x97\u2026", SYMBOL),
    **dict.fromkeys((_STAND_INS[name] for name in _LETTER_ENTITIES), MARK),
    "\u03f6": MARK,
    # Letters of Unicode 7, which the tokenizer does not know.
    **dict.fromkeys("\u037f\u0528\u0529\u052a\u052b\u052c\u052d\u052e\u052f", NOTHING),
    _STAND_INS["amp"]: "&",
    APOSTROPHE_ENTITY: "\u2019",
    _STAND_INS["lt"]: SYMBOL,
    _STAND_INS["gt"]: SYMBOL,
}

# Of punctuation and symbols those that become tokens; of combining marks those that join letters. The
# tokenizer's tables are of 2014 and leave gaps, some even then: it drops ₩ and ₹.
_KNOWN_SYMBOL = re.compile(
    "[\u00a1-\u0481\u0483-\u060c\u061e-\u0888\u0e3f\u0e4f\u2016-\u2023\u2030-\u203b\u203e-\u2042\u2070-\u208e\u20a4"
    "\u2100-\u214f\u2155-\u215e\u2190-\u2bff\u3001\u3002\u3012\u30fb\uff01-\uffe1\uffe5\uffe6]"
)
_KNOWN_MARK = re.compile("[\u02c2-\u0ecd]")


def replace_entities(caption: str) -> str:
    """Return the caption with one character for each entity that is read."""
    return _ENTITY.sub(lambda entity: _ENTITIES[entity[1].lower()], caption) if "&" in caption else caption


def spell_entities(token: str) -> str:
    """Return a token with what its entities become, without soft hyphens."""
    return token.translate(_SPELL_OUT)


def outline(text: str) -> str:
    """Return the classes of a text's characters; as long as the text."""
    return text.translate(_OUTLINES)


class _Outlines(dict[int, str]):
    """The outline of each character, computed at its first use."""

    def __missing__(self, code: int) -> str:
        self[code] = _outline(chr(code))
        return self[code]


_OUTLINES = _Outlines(str.maketrans(_ALIKE))


def _outline(character: str) -> str:
    if character < "\x7f":
        return character if character >= " " else NOTHING
    if character > "\uffff":
        return NOTHING
    category = unicodedata.category(character)
    if category == "Nd":
        return DIGIT
    if category.startswith("L"):
        return LETTER
    if category in ("Mn", "Mc", "Sk") and _KNOWN_MARK.match(character):
        return MARK
    if category.startswith("Z"):
        return BLANK
    if category[0] in "SPN" and _KNOWN_SYMBOL.match(character):
        return SYMBOL
    return NOTHING
