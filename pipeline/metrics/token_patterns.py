"""What Stanford's Penn Treebank tokenizer (CoreNLP 3.4.1) takes for one token, as a table of patterns.

Found by asking that tokenizer for the tokens of made-up texts; none of its code was read. `tokenizer.py`
scans with the table: of all patterns that match at a place the longest counts, its context included; of
equally long ones the first.

The patterns see a caption's outline (`token_characters.py`), in which one character stands for each class
of characters beyond ASCII: é for a letter, ê for a mark that joins letters, § for a symbol.
"""

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import NamedTuple

from pipeline.metrics.token_characters import APOSTROPHE_ENTITY

NBSP = "\u00a0"

# How the characters of a token are written where not as in the caption.
_AS_IT_STANDS: Mapping[str, str] = {}
_WITH_BLANKS = {" ": NBSP, "(": "-lrb-", ")": "-rrb-"}
_APOSTROPHES = {
    **dict.fromkeys(["\u2019", "\x92", APOSTROPHE_ENTITY], "'"),
    **dict.fromkeys("\u2018\u201b\x91", "`"),
}
_QUOTES = {
    **_APOSTROPHES,
    "\u2039": "`",
    "\u203a": "'",
    **dict.fromkeys("\u201c\u00ab\x93", "``"),
    **dict.fromkeys("\u201d\u00bb\x94", "''"),
}
_DROPPED = dict.fromkeys(". -", "")

# Bodies of character classes.
_LETTER = "A-Za-zéê\u00ad"
_WORDY = f"{_LETTER}0-9"
_PLAIN = "A-Za-zé0-9"
_APOSTROPHE = "'\u2019"
_ANY_APOSTROPHE = "'\u2019\u2018`"
_SPACE = f" {NBSP}"
_NOT_IN_URLS = r' \t\n"<>|(){}'
_NOT_IN_MAIL = _NOT_IN_URLS + NBSP

_WORD = rf"(?:[{_LETTER}][{_WORDY}]*|[{_PLAIN}]+)"
# The inner marks of dog.cat and what?no.
_DOTTED = rf"[{_LETTER}][{_WORDY}]*(?:[.!?][{_LETTER}][{_WORDY}]*)+"
_ELIDED = rf"[dDoOlL][{_ANY_APOSTROPHE}](?=[{_PLAIN}]{{2}})"  # d'artagnan, o'clock
_PART = rf"(?:{_ELIDED})?[{_PLAIN}]+"
# The second kind may hold commas and periods, up to its first hyphen: 1,000-foot, but also dog,-cat. The
# limit keeps long texts without a hyphen from being searched to their end at every word; so do those of
# mail addresses, domains and files below.
_HYPHENATED = rf"(?:{_PART}(?:[-_\u2010]{_PART})+|[A-Za-z0-9][A-Za-z0-9.,]{{0,80}}(?:-[A-Za-z0-9]+)+)"
_NUMBER = r"(?:[0-9]*(?:[.,:][0-9]+)+|[0-9]+)"
_SLASHED = r"[A-Za-z0-9]+(?:-[A-Za-z]+)*"
_FEW, _MORE = "[0-9]{2,4}", f"[0-9]{{3,4}}[-{_SPACE}]?[0-9]{{3,5}}"  # of telephone numbers
_CLITIC = rf"[{_APOSTROPHE}](?i:[smd]|re|ve|ll)"
_NAME = r"[A-Za-z][A-Za-z0-9_:.-]*"
_VALUE = r"""(?:"[^"]*"|'[^']*')"""
_TAG = (
    rf"(?:<[!?][A-Za-z-][^>]*+>|</{_NAME}[ ]*>"
    rf"|<{_NAME}(?:[ ]++{_NAME}(?:[ ]*+=[ ]*+{_VALUE})?)*+[ ]*+/?[ ]*+>)"
)
_URL_END = r"[^ \t\n\"<>|(){}.!?,\-]"
_PATH = rf'/[^ \t\n"<>|()]+{_URL_END}'
_HOST = rf"www\.(?:[^{_NOT_IN_URLS}.!?,]+\.)+[A-Za-z]{{2,4}}"
_MOUTH = r"[()\[\]{@|\\DPOdp]"

# Words that keep their period before whatever follows.
_TITLES = (
    "adj|adm|adv|alex|assoc|asst|attys?|ave|brig|capt|cf|cie|cmdr|col|comdr|cpl|dept|det|drs?|elec|ens|ft|"
    "gen|govs?|hon|insp|invt|jos|lieut|lt|maj|messrs|mlle|mme|mrs?|ms|msgr|mt|natl|pfc|ph|pres|profs?|pvt|"
    "reps?|rev|sens?|sfc|sgt|spc|ste?|supts?|treas|vs|wm"
)
# As above, and parted from a single letter that touches them: in `inc.a` but not in `mr.a`.
_PLACES_AND_TIMES = (
    "ala?|apr|ariz|assn|aug|bancorp|bhd|bldg|blvd|bros|calif|cos?|colo|conn|corp|ct|dak|dec|ed\\.d|esq|est|"
    "etc|ext|feb|fla|fri|ga|inc|ind|intl|jan|jr|jul|jun|kans?|ky|ltd|mar|md|mich|minn|mon?|mont|neb|nev|"
    "nov|oct|okla|penn|ph\\.d|plc|rd|rt|sept?|seq|sq|sr|sys|tel|tenn|thurs?|thu|tues?|univ|va|vt|wed|wisc?|"
    "wyo"
)
_NOT_IN_CAPITALS = "[Pp]p?t[ey]s?"
_CAPITALISED = "(?:A(?i:rk|z)|D(?i:el)|I(?i:ll)|L(?i:a)|M(?i:ass|iss)|O(?i:re)|P(?i:a)|T(?i:ex)|W(?i:ash))"
_PARTED = rf"(?:(?i:{_PLACES_AND_TIMES})|{_NOT_IN_CAPITALS}|{_CAPITALISED})\."
# Words that keep it before a number.
_COUNTED = "(?i:art|ca|figs?|nos?|op|pp|prop)"
# Words that show, after a single letter, that a sentence has ended before them; so do tags.
_STARTERS = (
    "A|A(?i:bout|ccording|fter|n|s|t)|B(?i:ut)|H(?i:e|er|ere|owever)|I(?i:f|n|t)|L(?i:ast)|M(?i:any|ore)|"
    "N(?i:ow)|O(?i:nce|ne|ther|ur)|S(?i:he|ince|o|ome|uch)|T(?i:hat|he|heir|hen|here|hese|hey|his)|"
    "W(?i:e|hat|hen|hile)|Y(?i:et|ou)|M(?i:r|s)\\."
)
_FILES = (
    "bat|bmp|c|cgi|cpp|dll|docx?|exe|gif|gz|h|html?|jar|java|jpe?g|mov|pdf|php|pl|png|ppt|ps|py|sql|tar|"
    "txt|wav|x|xml|zip"
)


class _Rule(NamedTuple):
    starts: str  # with which characters the token may start: the body of a character class
    token: str
    context: str = ""  # what must follow, and counts for the length
    spelling: Mapping[str, str] = _AS_IT_STANDS


_RULES = (
    # Contractions. The first parts are separate tokens: can not, gon na.
    _Rule("Cc", "(?i:can)", "(?i:not)"),
    _Rule("Gg", "(?i:gon)", "(?i:na)"),
    _Rule("Ww", "(?i:wan)", "(?i:na)"),
    _Rule("Gg", "(?i:got)", "(?i:ta)"),
    _Rule("Ll", "(?i:lem)", "(?i:me)"),
    _Rule("Gg", "(?i:gim)", "(?i:me)"),
    _Rule("A-Za-z\u00ad", "[A-Za-z\u00ad]*[A-MO-Za-mo-z]", rf"[nN][{_ANY_APOSTROPHE}][tT]"),
    _Rule("nN", rf"[nN][{_ANY_APOSTROPHE}][tT]", spelling=_APOSTROPHES),
    _Rule(_LETTER, rf"[{_LETTER}]+", _CLITIC),
    _Rule(_LETTER, _DOTTED, _CLITIC),
    _Rule("'", _CLITIC, "(?![A-Za-z])"),
    _Rule("\u2019", _CLITIC, spelling=_APOSTROPHES),
    _Rule("'", "'[tT]", "(?i:is|was)"),
    # Words.
    _Rule(_WORDY, _WORD),
    _Rule(_LETTER, _DOTTED),
    _Rule(
        "A-Za-z0-9<",
        rf"<?[A-Za-z0-9][^{_NOT_IN_MAIL}]{{0,80}}@[^{_NOT_IN_MAIL}.]+(?:\.[^{_NOT_IN_MAIL}.]+)*>?",
    ),
    _Rule("A-Za-z", _PARTED, r"[\s\S]{2}"),
    _Rule(_PLAIN, _HYPHENATED),
    _Rule(_WORDY, rf"(?:{_HYPHENATED}|{_DOTTED}|{_PART}|{_WORD})\.", "[,;:]"),
    _Rule("A-Za-z0-9", rf"{_SLASHED}(?:\\?/{_SLASHED}){{1,2}}"),
    # Apostrophes in words: d'artagnan, A'shanti, Hawai'i; those that part words: j'ai, y'all.
    _Rule("dDoOlL", rf"{_ELIDED}[{_PLAIN}]+"),
    _Rule("A-Zn", rf"[A-HJ-XZn][{_ANY_APOSTROPHE}][{_LETTER}]{{2,}}"),
    _Rule(_LETTER, rf"[{_LETTER}]+[aeiouyAEIOUY][{_ANY_APOSTROPHE}][aeiouA-Z][{_LETTER}]*"),
    _Rule("dDjJlL", rf"[dDjJlL][{_APOSTROPHE}]"),
    _Rule("yY", rf"[yY][{_APOSTROPHE}]", f"[{_LETTER}]"),
    _Rule("A-Za-z", rf"(?i:(?:c[{_APOSTROPHE}](?:est|mon)|ol[{_APOSTROPHE}]|s[{_APOSTROPHE}]mores))"),
    _Rule("A-Za-z", rf"(?i:e'er|ev'ry|li'l|o[{_ANY_APOSTROPHE}]o|qu[{_APOSTROPHE}][a-z]+)"),
    _Rule(_APOSTROPHE, rf"[{_APOSTROPHE}](?i:n[{_APOSTROPHE}]|em|till?|cause)"),
    _Rule("'", "'[nN]", rf"[{_SPACE}\n]"),
    _Rule("\u2019", "\u2019[nN]"),
    _Rule(_APOSTROPHE, rf"[{_APOSTROPHE}][0-9]{{2}}", r"[\s]"),
    _Rule(_APOSTROPHE, rf"[{_APOSTROPHE}][2-9]0[sS]"),
    # Abbreviations.
    _Rule("A-Za-z", rf"(?i:{_TITLES})\.|[Mm][ft]g\."),
    _Rule("A-Za-z", _PARTED),
    _Rule("A-Za-z", rf"{_COUNTED}\.", rf"[{_SPACE}]?[0-9]"),
    _Rule("A-Za-z", r"[A-Za-z]\."),
    _Rule(_LETTER, r"[A-Za-z]", rf"\.\s+(?:{_STARTERS}|{_TAG})\s"),
    _Rule("A-Za-z0-9", r"(?:[A-Za-z0-9][A-Za-z0-9.,]{0,80}-){0,9}[A-Za-z](?:\.[A-Za-z])+\."),
    _Rule("A-Z", r"[A-Z]+(?:[&+][A-Z]+)+"),
    _Rule("A-Z", r"[A-Z]+(?:[&+][A-Z]+)+\.", "[,;:]"),
    _Rule("A-Z", r"[A-Z]+\$"),
    _Rule("CcFf", r"[cC]\+\+|[cCfF]\#"),
    # Numbers, dates, telephone numbers.
    _Rule("0-9.,:", _NUMBER),
    _Rule("+-", rf"[+-]{_NUMBER}"),
    _Rule("0-9", r"[0-9]{1,2}[-/][0-9]{1,2}[-/][0-9]{2,4}"),
    _Rule(
        "0-9", rf"(?:[0-9]{{1,4}}[-{_SPACE}])?[0-9]{{1,4}}(?:\\?/|\u2044)[0-9]{{1,4}}", spelling=_WITH_BLANKS
    ),
    _Rule("+0-9", rf"\+?(?:{_FEW}[-{_SPACE}])?{_FEW}[-{_SPACE}]{_MORE}", spelling=_WITH_BLANKS),
    _Rule("(", rf"\([0-9]{{2,3}}\)[{_SPACE}]?{_MORE}", spelling=_WITH_BLANKS),
    # The net.
    _Rule("Hh", rf"(?i:https?)://[^{_NOT_IN_URLS}]+{_URL_END}"),
    _Rule("Ww", rf"(?i:{_HOST})"),
    _Rule("Ww", rf"(?i:{_HOST}){_PATH}"),
    _Rule(
        r"a-z#%&*+~\x80-\uffff",
        rf"(?<![#%&*+~\x80-\uffff])(?:[a-z#%&*+~\x80-\uffff]++\.){{1,9}}(?:com|net|org|edu)(?:{_PATH})?",
    ),
    _Rule(_PLAIN, rf"[{_WORDY}]+(?:\.[{_WORDY}]+){{0,9}}\.(?i:{_FILES})", r"[\s.?!,]"),
    _Rule("@", "@[A-Za-z_][A-Za-z0-9_]*"),
    _Rule("#", rf"\#[{_LETTER}]+"),
    _Rule("<", _TAG, spelling={" ": NBSP}),
    _Rule("&", r"&\#[0-9]+;"),
    # Smileys and faces.
    _Rule(":;=<>", rf"[<>]?[:;=][-o*']?{_MOUTH}", "(?![A-Za-z0-9])", _WITH_BLANKS),
    _Rule("-^<>=~'x", r"[-^<>=~'x]_[-^<>=~'x]"),
    _Rule("(", r"\((?:[-^<>=~'x][_.]?[-^<>=~'x]|[\^<>=~'x]-[\^<>=~'x`])\)", spelling=_WITH_BLANKS),
    # Marks.
    _Rule(".", rf"\.{{3,5}}|\.[{_SPACE}]\.[{_SPACE}]\.", spelling=_DROPPED),
    _Rule("-", "-{1,4}", spelling=_DROPPED),
    _Rule("-", "-{5,}"),
    _Rule("!?", "[!?]+"),
    _Rule("'", "''"),
    _Rule(
        "`\u2018\u2019\u201c\u201d\u00ab\u00bb\u2039\u203a",
        "[`\u2018\u2019\u201c\u201d\u00ab\u00bb\u2039\u203a]{1,2}",
        spelling=_QUOTES,
    ),
    _Rule("<>", "<<|>>"),
    _Rule(r"*_#@²\\", r"\*+|_+|\#+|@+|²+|\\\*"),
)


class Matcher(NamedTuple):
    """A compiled pattern: group 1 is the token, the rest its context; how to write the token."""

    match: Callable[[str, int], re.Match[str] | None]
    spelling: dict[int, str]


@cache
def matchers(first: str) -> tuple[Matcher, ...]:
    """What may match at a place of an outline that holds the character `first`, in order of the table."""
    return tuple(
        Matcher(re.compile(f"({rule.token}){rule.context}").match, str.maketrans(dict(rule.spelling)))
        for rule in _RULES
        if re.match(f"[{rule.starts}]", first)
    )
