"""Caption tokens as pycocoevalcap's PTBTokenizer (Stanford CoreNLP 3.4.1, lower case) gives them.

NLTK's Treebank rules split contractions, possessives and commas as Stanford does. Around them this
module does what Stanford does and they do not: it tells the period of an abbreviation from the end
of a sentence wherever it stands, and knows typographic quotes, dashes, brackets and symbols. Which
marks are then dropped is COCO's list.

Two facts of the reference surprise and are kept. Its list names brackets in upper case but its
tokens are in lower case, so brackets stay, as `-lrb-` and the like. Runs of marks (`!!`, `?!`) are
tokens that the list does not name, so they stay too.

Known to differ: smileys, telephone numbers in brackets, marks inside a word (`hello!world`,
`dog,5`, `c#`), double contractions (`shouldn't've`), times glued to `am` or `pm` (`3:30pm`), a
backtick for an apostrophe, `y'all`, `d'ye`, and symbols outside Stanford's table, which it drops
and which are tokens here (emoji are dropped here too).
"""

import html
import re

from nltk.tokenize.treebank import TreebankWordTokenizer

# COCO's list, of those that reach it: quotes, sentence marks and dashes.
_DROPPED = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])

_PLAIN = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201b", "'"),
        **dict.fromkeys("\u201c\u201d\u00ab\u00bb", '"'),
        **dict.fromkeys("\u2013\u2014\u2015\u2026\u2010\u2011\u2012\u200b\u200c\u200d\ufe0f\ufeff", " "),
        # The currencies of the Wall Street Journal's typesetting, which the treebank follows.
        **{"£": " # ", "€": " $ ", "¤": " $ ", "¢": " cents "},
        **{"¼": "1/4", "½": "1/2", "¾": "3/4", "\u00ad": ""},
    }
)

# Found by asking Stanford's tokenizer for each candidate, in lower case, capitalised, before a
# word, before a number and last in the line.
_ABBREVIATIONS = (
    "adj|adm|adv|al|ala|apr|ariz|assn|assoc|asst|attys?|aug|ave|bancorp|bhd|bldg|blvd|brig|bros|"
    "calif|capt|cf|cmdr|cos?|col|colo|comdr|conn|corp|cpl|ct|dak|dec|dept|det|drs?|ed\\.d|elec|"
    "ens|esq|est|etc|feb|fla|fri|ft|ga|gen|govs?|hon|inc|ind|insp|intl|invt|jan|jr|jul|jun|kans?|"
    "ky|lieut|lt|ltd|maj|mar|md|messrs|mfg|mich|minn|mlle|mme|mo|mon|mont|mrs?|ms|msgr|mt|mtg|"
    "natl|neb|nev|nov|oct|okla|penn|pfc|ph|ph\\.d|plc|pres|profs?|pte|ptys?|pvt|rd|reps?|rev|rt|"
    "sens?|sept?|seq|sfc|sgt|spc|sq|sr|ste?|supts?|sys|tel|tenn|thurs?|tues?|univ|va|vs|vt|wed|"
    "wisc?|wyo"
)
_ONLY_CAPITALISED = "Ark|Az|Del|Ill|La|Mass|Miss|Ore|Pa|Tex|Wash"
_ONLY_BEFORE_NUMBERS = "art|ca|figs?|nos?|op|pp|prop"

# What Stanford takes for one token and NLTK would take apart.
_WHOLE = re.compile(
    rf"""(
      [!?]{{2,}}
    | (?<![\w.'])(?:
          (?:(?i:{_ABBREVIATIONS})|{_ONLY_CAPITALISED}|[A-Za-z](?:\.[A-Za-z])*)\.(?!\w)
        | (?i:{_ONLY_BEFORE_NUMBERS})\.(?=\s*\d)
      )
    | (?<!\w)'[Nn]'(?!\w)
    | \b[Oo]l'(?!\w)
    | \b[A-Z]+(?:&[A-Z]+)+\b
    | [\w.]*@[A-Za-z][\w.]*\w
    | \#[A-Za-z]\w*
    | </?[A-Za-z][^<>\s]*>
    | https?://\S*[\w/]
    )""",
    re.VERBOSE,
)

# Marks that are on COCO's list as soon as they stand alone: no need to keep them for NLTK to split.
_GONE = re.compile(
    r"""
      " | ` | ''
    | (?<!\w)'(?!(?:s|m|d|ll|re|ve|em|n|tis|twas|\d0s)\b)   # opens a quotation
    | '(?!\w) | (?<=\d)'(?=\d)                              # closes one; feet and inches
    | \.{2,} | \.(?!\w) | (?<!\w)\.(?!\d)
    | --+ | -(?!\w) | (?<!\w)-(?!\d)
    """,
    re.VERBOSE | re.IGNORECASE,
)

# Marks that Stanford parts from what they touch and NLTK does not.
_APART = re.compile(
    r"""
      \*+ | [=|~^\\] | (?<!\+)\+(?![\d+])
    | /(?!\w) | (?<!\w)/
    | (?<![^\W_])_+ | _+(?![^\W_])
    | [^\w\s\x00-\x7f\u0300-\u036f\U00010000-\U0010ffff]    # symbols
    """,
    re.VERBOSE,
)
_EMOJI = re.compile(r"[^\w\s\x00-\uffff]")

_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}

_TREEBANK = TreebankWordTokenizer()


def tokenize(caption: str) -> list[str]:
    """The tokens of a caption that scores compare: lower case, COCO's punctuation dropped."""
    tokens: list[str] = []
    for position, piece in enumerate(_WHOLE.split(html.unescape(caption).translate(_PLAIN))):
        # With one group, re.split alternates: what lies between the matches, and the matches.
        tokens += [piece] if position % 2 else _split(piece)
    return [token for token in map(str.lower, tokens) if token not in _DROPPED]


def _split(text: str) -> list[str]:
    """Treebank tokens of text without abbreviations; marks of COCO's list may be gone already."""
    text = _EMOJI.sub(" ", _APART.sub(r" \g<0> ", _GONE.sub(" ", text)))
    return [_BRACKETS.get(token, token) for token in _TREEBANK.tokenize(text)]
