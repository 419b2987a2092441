"""Requests in words: the regions that they name, or a refusal; never another region."""

import math
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pipeline.errors import PipelineError
from pipeline.regions.regions import REGIONS, region_from_name, region_from_request, regions_from_request
from pipeline.regions.words import TABLE

ROWS = [row.split() for row in TABLE.strip().splitlines()]
WORDS = {word: letter for letter, _, *words in ROWS for word in words}


def words_for(letters: str, name: str = "") -> list[str]:
    """Words of the table by their letter, or by the place that they name."""
    return [
        w for letter, its_name, *words in ROWS if letter in letters and name in ("", its_name) for w in words
    ]


EDGES = {name: words_for("VbH", name) for name in ("top", "bottom", "left", "right")}
EDGES["left"] += ["left-most", "left-hand"]
EDGES["right"] += ["right-most", "right-hand"]
CENTER = words_for("C")
PLACES = [*words_for("S"), "half", "edge", "border"]


@st.composite
def places(draw: st.DrawFn) -> tuple[str, str]:
    """A region's name and words for it."""

    def pick(options: Sequence[str]) -> str:
        return draw(st.sampled_from(options))

    kind = pick(["corner", "edge", "center", "third", "full"])
    if kind == "full":
        return "full", f"{pick(words_for('W'))} {pick(words_for('I'))}"
    if kind == "center":
        return "center", f"{pick(CENTER)} {pick(['', *PLACES])}".strip()
    if kind == "third":
        side = pick([*EDGES, "middle"])
        return f"{side} third", f"{pick({**EDGES, 'middle': CENTER}[side])} {pick(['third', '1/3', '33%'])}"
    if kind == "edge":
        name = pick(list(EDGES))
        words = pick(EDGES[name])
        # Without a noun of place "the left hand" is somebody's.
        nouns = [*PLACES, *CENTER] if "hand" in words else ["", *PLACES, *CENTER]
        return name, f"{words} {pick(nouns)}".strip()
    vertical, horizontal = pick(["top", "bottom"]), pick(["left", "right"])
    parts = [pick(EDGES[vertical]), pick(EDGES[horizontal])]
    if draw(st.booleans()):
        parts.reverse()
    if draw(st.booleans()):
        joined = pick([" ", "-", "  ", "_", "" if "".join(parts).isalpha() else " "]).join(parts)
        return f"{vertical}-{horizontal}", f"{joined} {pick(['corner', ''])}"
    noun, where = pick(["corner", "side", "part"]), pick(["on", "at", "in"])
    return f"{vertical}-{horizontal}", f"{parts[0]} {noun} {where} the {parts[1]} side"


change_case = st.sampled_from([str.lower, str.upper, str.title])


@st.composite
def phrasings(draw: st.DrawFn) -> tuple[str, str]:
    """A region's name and one way of asking for it."""
    name, words = draw(places())
    before = draw(st.sampled_from(["", "the ", "Describe the object in the ", "what can be seen at the "]))
    endings = ["", ".", "?", " of the image", " of the whole picture", ", please!"]
    after = draw(st.sampled_from(["", ".", ", please"] if name == "full" else endings))
    return name, draw(change_case)(before + words + after)


@given(phrasings())
def test_phrasings_of_the_grammar_name_their_region(phrasing: tuple[str, str]) -> None:
    name, request = phrasing
    assert region_from_request(request) == REGIONS[name]


@st.composite
def slips(draw: st.DrawFn, word: str) -> str:
    """The word with a letter more, less, wrong or in the place of its neighbor."""
    at = draw(st.integers(0, len(word) - 1))
    before, letter, after = word[:at], draw(st.sampled_from("abcdefghijklmnopqrstuvwxyz")), word[at + 1 :]
    moved = before + after[:1] + word[at] + after[1:]
    return draw(
        st.sampled_from([before + letter + word[at:], before + after, before + letter + after, moved])
    )


@given(phrasings(), st.data())
def test_a_request_with_a_slip_is_never_answered_for_another_region(
    phrasing: tuple[str, str], data: st.DataObject
) -> None:
    name, request = phrasing
    words = re.split(r"(\W+|_)", request.lower())
    at = data.draw(st.sampled_from([n for n, word in enumerate(words) if word.isalpha() and len(word) > 1]))
    slip = data.draw(slips(words[at]))
    # Another word that is understood, or ordinary English, is no slip.
    assume(slip not in WORDS and len(slip) > 2)
    words[at] = slip
    with suppress(PipelineError):
        assert [region.name for region in regions_from_request("".join(words))] == [name]


@given(phrasings(), st.sampled_from(["everything except {}", "anything but {}", "{}, not this", "not {}"]))
def test_a_request_for_what_lies_outside_a_region_is_refused(phrasing: tuple[str, str], around: str) -> None:
    name, request = phrasing
    assume(name != "full")
    with pytest.raises(PipelineError, match="is unclear"):
        regions_from_request(around.format(request))


@given(
    st.sampled_from([*EDGES, "center"]),
    st.integers(0, 100),
    st.sampled_from(["%", " %", " percent", "/7", " px"]),
)
def test_an_amount_of_an_edge_is_a_half_or_a_third_or_refused(edge: str, number: int, unit: str) -> None:
    with suppress(PipelineError):
        (region,) = regions_from_request(f"the {edge} {number}{unit}")
        assert (region.name, number) in [(edge, 50), (f"{edge} third", 33), ("middle third", 33)]


COMPASS = [f"{v}{gap}{h}" for v in ("north", "south") for gap in ("", "-", " ") for h in ("east", "west")]
COMPASS += ["north", "south", "east", "west"]
# Not of the table: what else people call a part of an image.
ELSEWHERE = [c + end for c in COMPASS for end in ("", "ern", "ward")]
ELSEWHERE += ["lhs", "rhs", "midpoint", "mid-section", "periphery", "rim", "first column", "bottommost row"]
ELSEWHERE += ["foreground", "background", "remainder", "both ends"]


@given(
    st.sampled_from(ELSEWHERE),
    st.sampled_from(["{}", "the {}", "Describe the {}.", "what is in the {} of the image?", "the {} part"]),
    change_case,
)
def test_a_place_that_people_know_and_the_grammar_does_not_is_never_the_whole_image(
    place: str, around: str, case: Callable[[str], str]
) -> None:
    with pytest.raises(PipelineError, match="is unclear"):
        regions_from_request(case(around.format(place)))


@given(
    st.lists(st.decimals(0, 5000, places=1), min_size=2, max_size=6),
    st.sampled_from([" to ", " and ", ", ", " by ", " up to ", "x", " height ", " until "]),
    st.sampled_from(["{}", "from {}", "crop {}, please", "show pixels {}", "width {}"]),
)
def test_numbers_are_a_box_or_refused(numbers: list[Decimal], joined_by: str, around: str) -> None:
    with suppress(PipelineError):
        regions = regions_from_request(around.format(joined_by.join(map(str, numbers))))
        assert [region.name for region in regions] == ["box"]


# Words without an everyday use that takes the place out of the request.
plain_words = st.sampled_from(["dog", "a", "red", "show", *words_for("VHCDKESthngJu")])


@given(st.lists(plain_words, min_size=1, max_size=8))
@example(["left", "third", "top"])
def test_an_answer_holds_every_place_of_the_request_and_no_other(words: list[str]) -> None:
    places = {name for letter, name, *its_words in ROWS if letter in "VHC" for w in words if w in its_words}
    try:
        regions = regions_from_request(" ".join(words))
    except PipelineError:
        return
    named = {part.replace("middle", "center") for r in regions for part in re.findall(r"\w+", r.name)}
    if "center" in places and "center" not in named:  # "top center" is the top
        places.discard("center")
    assert named - {"third"} == (places or {"full"})


@given(
    st.lists(places(), min_size=2, max_size=4),
    st.sampled_from([" and the ", ", the ", "; the ", " versus the ", " with the ", ", and then the "]),
    st.sampled_from(["{}", "Compare the {}.", "What is in the {} of the picture?"]),
    change_case,
)
def test_a_list_of_places_names_each_once_in_its_order(
    listed: list[tuple[str, str]], joined_by: str, around: str, case: Callable[[str], str]
) -> None:
    request = case(around.format(joined_by.join(words for _, words in listed)))
    expected = list(dict.fromkeys(name for name, _ in listed))
    assert [region.name for region in regions_from_request(request)] == expected
    if len(expected) > 1:
        with pytest.raises(PipelineError, match="names more than one region"):
            region_from_request(request)


WAYS = """
compare the left and the right -> left, right | Compare the left to the right -> left, right
left/right -> left, right | is the top darker than the bottom? -> top, bottom | top right quarter -> top-right
both the left and the right -> left, right | the left and the right ends -> left, right
the upper left and right corners -> top-left, top-right | bottom and top left corners -> bottom-left, top-left
left, middle and right thirds -> left third, middle third, right third | the left ⅓ -> left third
all four corners -> top-left, top-right, bottom-left, bottom-right | the left 50% -> left
the center, and the whole image -> center, full | the left and the left-hand side -> left
lower left-hand -> bottom-left | upper right-hand -> top-right | right-hand upper corner -> top-right
topright -> top-right | lower_left -> bottom-left | the corner at the top left -> top-left
top left, in the upper left corner -> top-left | top left of the room -> top-left
the left side of the street -> left | the left of the whole image -> left | centre left -> left
top of athe whole picture -> top | the third dog on the left -> left
does the left part show 2 dogs and 3 cats? -> left
"""
# Ordinary phrases that name no place of the image.
FULL = """
Describe this image. | describe the dog | what is here? | asdf | !? | the third dog | the whole of the picture
what is happening right now? | what was left behind? | seen from above | read it from left to right
the book on top of the table | the man to the left of the dog | in the middle of the road | in mid-air
a chair in the corner of the room | the lamp above the table | What is in her left hand? | a photo from 2019
the second dog from the left | the sides of the road | a row of seats at the base of the tower
a town northwest of the river | is the light bright at night? stop, then write about the button later
their paper tower, a hot dog, a lot of power and two super flowers | copyright and leftovers on a laptop
the 2 dogs and 3 cats | are there 2 or 3 dogs? | the 3 people at 5 tables | a photo of 2 people from 2019
both dogs | both of the dogs | at the far end of the street | the inside of the car | in front of the house
the lamp above the first shelf | the other dog | an area of grass | the front door
"""
REFUSED = {
    "did you mean": "top lft | rigth side | the keft half | toplft | the left of the imge",
    "is an amount": "the left 25% | the top 10% | 1/4 of the image",
    "asks for what lies outside": """
        everything except the left | what isn't on the left? | away from the left | the outside
        the other half of the image | between the left and the right | the rest of the image""",
    "is not one of the regions": """
        Describe the corner | the top corner | the right-hand corner and the top | the left quarter
        top right third | the second third | the north-east corner | the western side | northwest
        the northeast part | leftward | lhs | rhs | mid | the midpoint | the mid-section | the first column
        column 2 | the base of the image | the periphery | the rim | both sides | the sides | two sides
        both | both of them | both ends | at both ends | either side | the ends | the far end | the first part
        the opposite side | this area | part of the image | the foreground | the dog in the background
        the front | in front | in the distance""",
    "is not a box": """
        from 10,10 to 50,50 | 0.1 to 0.5 | width 100 height 100 | count 1, 2, 3 | at 100 200
        compare 2019 and 2020""",
    "can be read in two ways": "top left and right | top and bottom left | what is at the top right now?",
    "may be a place or not": """
        the left two thirds | the person left | is this the right colour? | the dog looking to the right
        in the left hand | left=10 top=20""",
    "needs a word like 'and'": "the middle of the left half | left right",
}


def requests(text: str) -> list[str]:
    return [request.strip() for line in text.strip().splitlines() for request in line.split(" | ")]


@pytest.mark.parametrize(
    ("request_", "names"),
    [
        *((name, name) for name in REGIONS),
        *((request, "full") for request in requests(FULL)),
        *(way.split(" -> ") for way in requests(WAYS)),
    ],
)
def test_ways_of_asking(request_: str, names: str) -> None:
    assert [region.name for region in regions_from_request(request_)] == names.split(", ")


@pytest.mark.parametrize(
    ("request_", "reason"),
    [(request, reason) for reason, text in REFUSED.items() for request in requests(text)],
)
def test_a_place_that_is_not_a_region_is_refused_with_what_can_be_asked(request_: str, reason: str) -> None:
    for read in (region_from_request, regions_from_request, region_from_name):
        with pytest.raises(PipelineError, match=rf"'.+' .*{reason}.*full, top-left,"):
            read(request_)


@pytest.mark.parametrize("name", ["asdf", "the dog", "what is right now?", "", " \n\t"])
def test_a_name_that_names_no_region_lists_the_regions(name: str) -> None:
    with pytest.raises(PipelineError, match=r"Ask for full, .*bottom third"):
        region_from_name(name)


VOCABULARY = (
    "the of in to top left right bottom center above third half corner whole image dog hand most "
    "now and or , box ( ) [ ] , | 0 1 0.5 9 px - nan"
)
words = st.sampled_from(VOCABULARY.split())


@settings(max_examples=50)
@given(st.one_of(st.text(), st.lists(words, max_size=12).map(" ".join), st.lists(words).map("".join)))
def test_any_text_gives_a_box_in_the_image_or_a_pipeline_error(request: str) -> None:
    with suppress(PipelineError):
        regions = [region.within(50, 50) for region in regions_from_request(request)]
        assert regions
        for region in regions:
            left, top, right, bottom = region.box
            assert 0 <= left < right <= 1
            assert 0 <= top < bottom <= 1
            assert math.copysign(1, left) == math.copysign(1, top) == 1
