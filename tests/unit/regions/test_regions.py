"""Requests in words: the regions that they name, or a refusal; never another region.

Run: .venv/bin/python -m pytest tests/unit/regions/test_regions.py
"""

import math
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from pipeline.errors import PipelineError
from pipeline.regions.regions import (
    REGIONS,
    region_from_name,
    region_from_request,
    regions_from_request,
)
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
    """The word with a letter more, less, wrong or in the place of its neighbour."""
    at = draw(st.integers(0, len(word) - 1))
    letter = draw(st.sampled_from("abcdefghijklmnopqrstuvwxyz"))
    return draw(
        st.sampled_from(
            [
                word[:at] + letter + word[at:],
                word[:at] + word[at + 1 :],
                word[:at] + letter + word[at + 1 :],
                word[:at] + word[at + 1 : at + 2] + word[at] + word[at + 2 :],
            ]
        )
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
    try:
        (region,) = regions_from_request(f"the {edge} {number}{unit}")
    except PipelineError:
        return
    assert (region.name, number) in [(edge, 50), (f"{edge} third", 33), ("middle third", 33)]


COMPASS = [f"{v}{gap}{h}" for v in ("north", "south") for gap in ("", "-", " ") for h in ("east", "west")]
COMPASS += ["north", "south", "east", "west"]
# Not of the table: what else people call a part of an image.
ELSEWHERE = [c + end for c in COMPASS for end in ("", "ern", "ward")]
ELSEWHERE += ["lhs", "rhs", "midpoint", "mid-section", "periphery", "rim", "first column", "bottommost row"]


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
    try:
        found = regions_from_request(around.format(joined_by.join(map(str, numbers))))
    except PipelineError:
        return
    assert [region.name for region in found] == ["box"]


# Words without an everyday use that takes the place out of the request.
plain_words = st.sampled_from(["dog", "a", "red", "show", *words_for("VHCDKESthngJu")])


@given(st.lists(plain_words, min_size=1, max_size=8))
@example(["left", "third", "top"])
def test_an_answer_holds_every_place_of_the_request_and_no_other(words: list[str]) -> None:
    places = {name for letter, name, *its_words in ROWS if letter in "VHC" for w in words if w in its_words}
    try:
        found = regions_from_request(" ".join(words))
    except PipelineError:
        return
    named = {part.replace("middle", "center") for r in found for part in re.findall(r"\w+", r.name)}
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


@pytest.mark.parametrize("name", REGIONS)
def test_names_are_requests(name: str) -> None:
    assert region_from_request(name) == region_from_name(name) == REGIONS[name]
    assert regions_from_request(name) == (REGIONS[name],)


@pytest.mark.parametrize(
    ("request_", "names"),
    [
        ("compare the left and the right", ["left", "right"]),
        ("Compare the left to the right", ["left", "right"]),
        ("left/right", ["left", "right"]),
        ("is the top darker than the bottom?", ["top", "bottom"]),
        ("the upper left and right corners", ["top-left", "top-right"]),
        ("bottom and top left corners", ["bottom-left", "top-left"]),
        ("left, middle and right thirds", ["left third", "middle third", "right third"]),
        ("all four corners", ["top-left", "top-right", "bottom-left", "bottom-right"]),
        ("the center, and the whole image", ["center", "full"]),
        ("the left and the left-hand side", ["left"]),
        ("lower left-hand", ["bottom-left"]),
        ("upper right-hand", ["top-right"]),
        ("right-hand upper corner", ["top-right"]),
        ("topright", ["top-right"]),
        ("lower_left", ["bottom-left"]),
        ("the corner at the top left", ["top-left"]),
        ("top left, in the upper left corner", ["top-left"]),
        ("top left of the room", ["top-left"]),
        ("the left side of the street", ["left"]),
        ("the left of the whole image", ["left"]),
        ("top of athe whole picture", ["top"]),
        ("centre left", ["left"]),
        ("the left 50%", ["left"]),
        ("the left ⅓", ["left third"]),
        ("the third dog on the left", ["left"]),
        ("top right quarter", ["top-right"]),
    ],
)
def test_ways_of_asking(request_: str, names: list[str]) -> None:
    assert [region.name for region in regions_from_request(request_)] == names


@pytest.mark.parametrize(
    "request_",
    [
        "Describe this image.",
        "describe the dog",
        "what is here?",
        "asdf",
        "!?",
        "what is happening right now?",
        "what was left behind?",
        "the book on top of the table",
        "the man to the left of the dog",
        "in the middle of the road",
        "a chair in the corner of the room",
        "the lamp above the table",
        "seen from above",
        "read it from left to right",
        "What is in her left hand?",
        "the second dog from the left",
        "the sides of the road",
        "a row of seats at the base of the tower",
        "in mid-air",
        "a photo from 2019",
        "a town northwest of the river",
        "is the light bright at night? stop, then write about the button later",
        "their paper tower, a hot dog, a lot of power and two super flowers",
        "copyright and leftovers on a laptop",
        "the third dog",
        "the whole of the picture",
    ],
)
def test_ordinary_phrases_are_the_full_image(request_: str) -> None:
    assert region_from_request(request_).name == "full"


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ("top lft", "'lft' .* did you mean 'left'"),
        ("rigth side", "'rigth' .* did you mean 'right'"),
        ("the keft half", "did you mean 'left'"),
        ("toplft", "did you mean 'topleft'"),
        ("the left of the imge", "did you mean 'image'"),
        ("the left 25%", "'left 25%' is an amount"),
        ("the top 10%", "'top 10%' is an amount"),
        ("1/4 of the image", "'1/4 of the image' is an amount"),
        ("everything except the left", "'except the left' asks for what lies outside"),
        ("what isn't on the left?", "'not on the left' asks for what lies outside"),
        ("away from the left", "asks for what lies outside"),
        ("between the left and the right", "asks for what lies outside"),
        ("Describe the corner", "'the corner' is not"),
        ("the top corner", "'the top corner' is not"),
        ("the right-hand corner and the top", "'the right hand corner' is not"),
        ("the left quarter", "'the left quarter' is not"),
        ("top right third", "third' is not"),
        ("the left two thirds", "'the left two' may be a place or not"),
        ("the second third", "'second third' is not"),
        ("the other half of the image", "half' asks for what lies outside"),
        ("the north-east corner", "'north' is not"),
        ("the western side", "'western' is not"),
        ("northwest", "'northwest' is not"),
        ("the northeast part", "'northeast' is not"),
        ("both sides", "sides' is not"),
        ("the sides", "sides' is not"),
        ("two sides", "sides' is not"),
        ("leftward", "'leftward' is not"),
        ("lhs", "'lhs' is not"),
        ("rhs", "'rhs' is not"),
        ("mid", "'mid' is not"),
        ("the midpoint", "'midpoint' is not"),
        ("the mid-section", "'mid' is not"),
        ("the first column", "'column' is not"),
        ("column 2", "'column 2' is not"),
        ("the base of the image", "'base' is not"),
        ("the periphery", "'periphery' is not"),
        ("the rim", "'rim' is not"),
        ("from 10,10 to 50,50", "'10 , 10 to 50 , 50' is no box"),
        ("0.1 to 0.5", "'0.1 to 0.5' is no box"),
        ("width 100 height 100", "'100 height 100' is no box"),
        ("count 1, 2, 3", "'1 , 2 , 3' is no box"),
        ("top left and right", "'top left and right' can be read in two ways"),
        ("top and bottom left", "'top and bottom left' can be read in two ways"),
        ("what is at the top right now?", "'top right now' can be read in two ways"),
        ("the person left", "'person left' may be a place or not; .* write 'left side'"),
        ("is this the right colour?", "'the right colour' may be a place or not; .* write 'right side'"),
        ("the dog looking to the right", "'the right' may be a place or not"),
        ("in the left hand", "'the left hand' may be a place or not"),
        ("the middle of the left half", "'the left half' needs a word such as 'and'"),
        ("left right", "needs a word such as 'and'"),
        ("left=10 top=20", "'left 10' may be a place or not"),
    ],
)
def test_a_place_that_is_no_region_is_refused_with_what_can_be_asked(request_: str, said: str) -> None:
    for read in (region_from_request, regions_from_request, region_from_name):
        with pytest.raises(PipelineError, match=rf"is unclear: .*{said}.*; ask for full, top-left,"):
            read(request_)


@pytest.mark.parametrize("name", ["asdf", "the dog", "what is right now?"])
def test_a_name_that_names_no_region_lists_those_there_are(name: str) -> None:
    with pytest.raises(PipelineError, match=r"names no region; ask for full, .*bottom third"):
        region_from_name(name)


@pytest.mark.parametrize("request_", ["", " \n\t"])
def test_an_empty_request_is_refused(request_: str) -> None:
    with pytest.raises(PipelineError, match="the request is empty"):
        region_from_request(request_)


VOCABULARY = (
    "the of in to top left right bottom center above third half corner whole image dog hand most "
    "now and or , box ( ) [ ] , | 0 1 0.5 9 px - nan"
)
words = st.sampled_from(VOCABULARY.split())


@given(st.one_of(st.text(), st.lists(words, max_size=12).map(" ".join), st.lists(words).map("".join)))
def test_any_text_gives_a_box_in_the_image_or_a_pipeline_error(request: str) -> None:
    try:
        found = [region.within(50, 50) for region in regions_from_request(request)]
    except PipelineError:
        return
    assert found
    for region in found:
        left, top, right, bottom = region.box
        assert 0 <= left < right <= 1
        assert 0 <= top < bottom <= 1
        assert math.copysign(1, left) == math.copysign(1, top) == 1
