"""Find the regions that a request names in words.

One table gives each word a letter, and the grammar is a few patterns over letters (docs/regions.md). A word
of place that belongs to no region and to no everyday use (`_NO_PLACE`) is refused: a guess would crop wrong.
"""

import re

BOX = "\x00"  # stands for a box among the words; requests hold no such character

# A letter, what its words stand for, and the words. Another word that is one slip (a letter more, less, wrong
# or moved) away from a word of place is refused; the ordinary English words so close stand in the last rows.
TABLE = """
V top        top topmost upper uppermost
V bottom     bottom bottommost lower lowermost
b top        above
b bottom     below
H left       left leftmost
H right      right rightmost
C center     center centre central middle
D third      third thirds 1/3 33% ⅓
K corner     corner corners quadrant quadrants quarter quarters
E half       half halves edge edges border borders 1/2 50% ½
S part       side sides part parts portion portions area areas region regions section end ends
Z elsewhere  north south east west northern southern eastern western vertical horizontal diagonal
Z elsewhere  northeast northwest southeast southwest northeastern northwestern southeastern southwestern
Z elsewhere  northward southward eastward westward leftward rightward lhs rhs mid midpoint base
Z elsewhere  northwards southwards eastwards westwards leftwards rightwards
Z elsewhere  northeastward northwestward southeastward southwestward
Y depth      foreground background forefront backdrop surroundings remainder
w depth      front back rear interior exterior distance
Z elsewhere  column columns row rows periphery rim perimeter margin margins
# amount     percent px pixel pixels
m measure    by up until height width high wide x y w h
I image      image picture photo photograph pic scene frame shot view painting drawing screenshot
W all        whole entire full complete
X exception  except excepting exclude excluding excluded without not dont but other rather instead minus
X exception  besides beside beyond outside around between opposite rest ignore ignoring omit skip remove
J list       and or & / versus vs with then plus , ;
q than       than
e each       all each every four
d both       both either neither
r rank       first second last near nearer nearest farther farthest
t opening    the describe caption show crop compare about
i pronoun    a an this that it its them these those
p owner      her his their my your our
h hand       hand most
o of         of within inside
n on         on at in
g to         to towards toward
f from       from
u verb       is are was were has have do does did can please too also only
a adverb     now away here there behind alone over out off after before far apart aside
. end        . ? ! : ( )
x ordinary   abode atop bellow blow blown blows bop bottoms bright centers centred cleft cop cornea deft eight
x ordinary   elbow enter enters exception excerpt exempt fiddle fight flower fright hired hop leaf lent lest
x ordinary   let lift light loft loner loser lover lowers might mop mower muddle night opt owner owners paper
x ordinary   pop power riddle rights rower sight slower stop super supper tap their theirs thirst tight tip
x ordinary   tired tmp toe tom ton too tops tot tow tower toy two wright
"""
_ROWS = [row.split() for row in TABLE.strip().splitlines()]
_LETTERS = {BOX: "B"} | {word: row[0] for row in _ROWS for word in row[2:]}
_NAMES = {word: row[1] for row in _ROWS if row[0] in "VbHC" for word in row[2:]}
_KNOWN = [w for w, letter in _LETTERS.items() if w.isalpha() and (letter in "VbHCDKI" or w[:2] == "ex")]
_KNOWN += [v + h for v in _KNOWN for h in _KNOWN if _LETTERS[v] + _LETTERS[h] in "VHV"]
_SLIPS = {slip: w for w in _KNOWN for slip in (w, *(w[:i] + w[i + 1 :] for i in range(len(w))))}
_TOKEN = re.compile(rf"{BOX}|[¼-¾⅐-⅞]|\d+\s*/\s*\d+(?!\d)|\d[\d.]*(?:\s*%)?|[^\W\d_]+|[?.,&/;:!()]")
_FUSED = rf"\b({'|'.join(_NAMES)})({'|'.join(w for w in _LETTERS if _LETTERS[w] in 'VbHCDKESh')})\b"

_P = "[VHC]h?"  # a position
_OF = "[onf][ti]*(?:x?W)?x{0,2}I"  # "of the whole image"
_OF_THING = "o[tiped]*r?x"  # "of the second dog"
_NO_PLACE = (
    "(?<![tWJVHh])[VH](?=a)"  # an adverb: "right now", "left behind"
    "|p[VHC][hVHC]*[SEKx]?"  # somebody's: "her left hand"
    "|(?<![aXVHCSEKDh])f[ti]?[VHCb](?![hSEKDVHC])(?:g[ti]?[VHC])?"  # "from the left", "from left to right"
    f"|(?<![VHCh])(?:{_P}|[KEDZ])(?!{_OF}|o[ti]*[.JVHCbB])(?=o)"  # of a thing: "on top of the table"
    "|(?<!t)b(?=[tip]r?x|[ed])|(?<=[xu])b(?=x)"  # "above the table"
)
_UNCLEAR = {
    "X.*[VHCDKEB]|[VHCDKEB].*X|[aX]f[ti]?[VHC]|b[nti]*[VHC]": "asks for what lies outside a region",
    f"#.*[VHCDKE]|[VHCDKE].*#|#{_OF}": "is an amount, which a box can say",
    "(?<![VHCh])(?:Vh?J+Vh?H|Hh?J+Hh?V)(?!h?K)": "can be read in two ways",  # "top and bottom left"
    "Vh?Hh?J+H(?!h?[VK])|Hh?Vh?J+V(?!h?[HK])|[WJVHh][VHC]h?a": "can be read in two ways",
    f"tX(?![xSh]|{_OF_THING})": "asks for what lies outside a region",
    f"Z(?!x)|Y|[tn]w(?!x|{_OF_THING})|d(?![oti]*[xrVHCKES])": "is not one of the regions",
}
_REGION = re.compile(
    f"(?:(?P<box>B)|(?P<full>Wo?[ti]?I)|(?P<all>e[oti]*e?K)|(?P<third>(?:{_P}J+)*{_P}D)"
    "|(?P<corner>(?:Vh?J+Vh?Hh?|Hh?J+Hh?Vh?|Vh?Hh?J+Hh?|Hh?Vh?J+Vh?)(?=K)"  # "top left and right corners"
    "|(?:Vh?(?:[SEK]?|[SEK][ng]t?)H|Hh?(?:[SEK]?|[SEK][ng]t?)V|(?<=t)(?:Vh?[ng]tH|Hh?[ng]tV))h?)"
    f"|(?P<alone>[VH]h?C?|C[VH]h?|C))(?P<noun>K|[SE]*)(?P<of>{_OF})?"
)


_ASKING = ("what", "which", "who", "whom", "whose", "where", "when", "why", "how")
_YES_OR_NO = ("is", "are", "was", "were", "does", "do", "did", "has", "have")
_POLITE = ("can", "could", "would", "will", "you", "we", "me", "us", "please", "tell", "see", "show", "there")


# Words that ask for what is there, and for nothing else.
_GENERIC = {
    *_YES_OR_NO, "s", "shown", "seen", "visible", "happening", "happens", "going", "look", "looks", "like",
    "object", "objects", "thing", "things", "something", "anything",
}  # fmt: skip


def is_question(request: str) -> bool:
    """Tell whether a request asks about more than what a place shows, and the model itself must answer.

    "What color is the ring?" does; "What is in the top-left corner?" and "Describe the dog" do not.
    """
    words = [word for word in _TOKEN.findall(request.casefold()) if word[0].isalpha()]
    others = {*_ASKING, *_POLITE, *_GENERIC}
    things = [word for word in words if _LETTERS.get(word, "x") == "x" and word not in others]
    asks = bool(words) and (words[0] in (*_ASKING, *_YES_OR_NO) or request.rstrip().endswith("?"))
    return asks and bool(things)


def find_names(text: str) -> list[str]:
    """Find region names (`BOX` for a box) in lower-case text; ValueError quotes any other place."""
    text = re.sub(_FUSED, r"\1 \2", re.sub(r"n\Wt\b", " not", text))
    words = [".", *(re.sub(r"\s", "", word) for word in _TOKEN.findall(text)), "."]
    letters = "".join(_LETTERS.get(w, "#" if re.search(r"\d[/%]|[¼-⅞]", w) else "x") for w in words)
    for at, word in enumerate(words):
        shorter = (word, *(word[:i] + word[i + 1 :] for i in range(min(len(word), 20))))
        meant = next((_SLIPS[slip] for slip in shorter if slip in _SLIPS), "")
        is_image = _LETTERS.get(meant) == "I" and not re.search("[VHCKDEh]o[ti]?W?$", letters[:at])
        if len(word) > 2 and meant and word not in _LETTERS and not is_image:
            raise ValueError(f"'{word}' is not a word of place (did you mean '{meant}'?)")
    letters = letters.replace("g", "J") if "compar" in text else letters  # "compare the left to the right"
    letters = re.sub(_NO_PLACE, lambda match: "x" * len(match[0]), letters).replace("b", "V")
    unclear = [(*m.span(), why) for pattern, why in _UNCLEAR.items() for m in re.finditer(pattern, letters)]
    names: list[str] = []
    end, rest = 0, letters
    for match in _REGION.finditer(letters):
        (start, stop), alone, why = match.span(), match["alone"], ""
        named, between = _names(match, words[start:stop]), letters[end:start]
        if names and not re.search("[Jqf]", between) and named[0] not in names:
            why = "needs a word like 'and' before it, since regions do not lie in regions"
        elif alone and match["noun"] == "K":
            why = "is not one of the regions"
        elif alone and not match["noun"] and not match["of"]:
            before = re.search("([.W]|(?<!g)t)$", letters[:start]) or (names and not between.strip("Jqf"))
            after = re.match("[.JquvgnofaXtVHCB]|x{0,2}q", letters[stop:])
            if not before or not after or words[stop - 1] == "hand":
                why = f"may be a place or not; for the region write '{named[0]} side'"
        unclear += [(start - 1, stop + (not match["noun"]), why)] if why else []
        names += named
        rest, end = rest[:start] + "|" * (stop - start) + rest[stop:], stop
    noun = "D(?!x)|E(?![xi])" + ("" if any("-" in name for name in names) else "|K")
    which = "" if {"sides", "ends"} & {*words} else "(?<=[.tieadrX])"  # "the first part": of what?
    noun += f"|{which}S(?!x|{_OF_THING})"
    unclear += [(m.start() - 1, m.end(), "is not one of the regions") for m in re.finditer(noun, rest)]
    numbers = [at for at, word in enumerate(words) if word[0].isdigit() and letters[at] in "x#"]
    counts = {at for at in numbers if letters[at + 1] == "x" and at + 1 not in numbers}  # "3 dogs"
    counts |= {at for at in numbers if words[at + 1] in ("and", "or") and at + 2 in counts}  # "2 or 3 dogs"
    if len(numbers) - len(counts) > 1:
        unclear.append((numbers[0], numbers[-1] + 1, "is not a box: left, top, right, bottom"))
    unclear += [(at - 1, at + 1, "is not one of the regions") for at in numbers if letters[at - 1] == "Z"]
    if unclear:
        start, stop, why = unclear[0]
        raise ValueError(f"'{' '.join(words[start:stop]).strip(' .')}' {why}")
    return names


def _names(match: re.Match[str], words: list[str]) -> list[str]:
    places = ["top", "bottom", "left", "right"] if match["all"] else [_NAMES[w] for w in words if w in _NAMES]
    if match["third"]:
        return [f"{place} third".replace("center", "middle") for place in places]
    if match["all"] or match["corner"]:
        return [f"{v}-{h}" for v in places for h in places if _LETTERS[v] + _LETTERS[h] == "VH"]
    if match["alone"]:
        return [place for place in places if place != "center"] or ["center"]
    return [BOX if match["box"] else "full"]
