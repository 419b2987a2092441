"""Caption tokens as pycocoevalcap's PTBTokenizer (Stanford CoreNLP 3.4.1, lower case) gives them.

A scanner: at each place of the caption the longest token of `token_patterns.py` is taken. Which marks are
then dropped is COCO's list.

Behavior of the reference that surprises and is copied: its list names brackets in upper case but its tokens
are in lower case, so brackets stay, as `-lrb-` and the like. Runs of marks (`!!`, `?!`) and two adjacent
typographic quotes are tokens that the list does not name, so they stay too. Some tokens contain a blank, as a
no-break space: `1 1/2`, `<br />`.

Known to differ: letters, marks and symbols of scripts that Unicode has got since 2012, which are letters
here and nothing there; combining marks of some scripts of India and South-East Asia, which join letters
here and part them there or the other way; abbreviations of five letters or more that the reference was not
asked for; words of more than 80 letters before an @ or a hyphen. The reference tokenizes all captions
as one text: where one ends with an initial (`J.`), what the next begins with may matter there.
"""

import re
from collections.abc import Sequence

from pipeline.metrics.token_characters import HYPHEN, NOTHING, outline, replace_entities, spell_entities
from pipeline.metrics.token_patterns import matchers

# COCO's list, of those that reach it: quotes, sentence marks and dashes.
_DROPPED = frozenset(["", "''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", ";"])

_SPELLINGS = {
    **{"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"},
    **dict.fromkeys(['"', "\u2013", "\u2014", "\u2015", "\x96", "\x97", "\u2026"], ""),
    # The currencies of the Wall Street Journal's typesetting, which the treebank follows.
    **{"£": "#", "¢": "cents"},
    **dict.fromkeys("€₠¤\x80", "$"),
    **{"¼": "1/4", "½": "1/2", "¾": "3/4", "⅓": "1/3", "⅔": "2/3"},
}

# Nothing longer begins with a word of letters before a blank: most of a caption goes this way.
_PLAIN_WORDS = re.compile(r"(?:(?!(?i:cannot|gonna|wanna|gotta|lemme|gimme)\s)[A-Za-z]+\s+)+")


def tokenize(caption: str) -> list[str]:
    """Return the tokens of a caption that scores compare: lower case, COCO's punctuation dropped.

    ROUGE compares them as they are, BLEU and CIDEr after `split_at_blanks`.
    """
    text = replace_entities(caption) + "\n"
    classes = outline(text)
    tokens: list[str] = []
    at, end = 0, len(text)
    while at < end:
        if words := _PLAIN_WORDS.match(classes, at):
            tokens += words[0].lower().split()
            at = words.end()
        elif classes[at].isspace():
            at += 1
        else:
            token, at = _longest(text, classes, at)
            tokens.append(token)
    return [token for token in tokens if token not in _DROPPED]


def split_at_blanks(tokens: Sequence[str]) -> list[str]:
    """Split tokens at their inner blanks too, as pycocoevalcap's BLEU and CIDEr do."""
    return " ".join(tokens).split()


def caption_words(caption: str) -> list[str]:
    """Return a caption's tokens as BLEU and CIDEr compare them."""
    return split_at_blanks(tokenize(caption))


def _longest(text: str, classes: str, at: int) -> tuple[str, int]:
    """Return the token that begins at a place, as scores compare it, and where it ends."""
    longest, end = at, at + 1
    spelling: dict[int, str] = {}
    for matcher in matchers(classes[at]):
        match = matcher.match(classes, at)
        if match and match.end() > longest:
            longest, end, spelling = match.end(), match.end(1), matcher.spelling
    if classes[at:end] in (NOTHING, HYPHEN):
        return "", end
    token = spell_entities(text[at:end].translate(spelling).lower())
    return _SPELLINGS.get(token, token), end
