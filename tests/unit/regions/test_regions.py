"""Requests in words and the regions that they name.

Run: .venv/bin/python -m pytest tests/unit/regions/test_regions.py
"""

import math
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import PipelineError
from pipeline.regions.regions import NAMES, REGIONS, named, parse, parse_all

VERTICAL = {
    "top": ["top", "topmost", "upper", "uppermost", "above"],
    "bottom": ["bottom", "bottommost", "lower", "lowermost", "below"],
}
HORIZONTAL = {
    "left": ["left", "leftmost", "left-most", "left-hand"],
    "right": ["right", "rightmost", "right-most", "right-hand"],
}
EDGES = {**VERTICAL, **HORIZONTAL}
CENTER = ["center", "centre", "central", "middle"]
PLACES = ["side", "half", "part", "portion", "area", "region", "section", "edge", "end", "border"]
IMAGES = ["image", "picture", "photo", "scene", "frame", "view"]


@st.composite
def places(draw: st.DrawFn) -> tuple[str, str]:
    """A region's name and words for it, after the grammar of `pipeline.regions.words`."""

    def pick(options: Sequence[str]) -> str:
        return draw(st.sampled_from(options))

    kind = pick(["corner", "edge", "center", "third", "full"])
    if kind == "full":
        return "full", f"{pick(['whole', 'entire', 'full', 'complete'])} {pick(IMAGES)}"
    if kind == "center":
        return "center", f"{pick(CENTER)} {pick(['', *PLACES])}".strip()
    if kind == "third":
        side = pick([*EDGES, "middle"])
        return f"{side} third", f"{pick({**EDGES, 'middle': CENTER}[side])} third"
    if kind == "edge":
        name = pick(list(EDGES))
        words = pick(EDGES[name])
        # "Her left hand" is no region: without a noun of place "left-hand" is not used alone.
        nouns = [*PLACES, *CENTER] if "hand" in words else ["", *PLACES, *CENTER]
        return name, f"{words} {pick(nouns)}".strip()
    vertical, horizontal = pick(list(VERTICAL)), pick(list(HORIZONTAL))
    parts = [pick(VERTICAL[vertical]), pick(HORIZONTAL[horizontal])]
    if draw(st.booleans()):
        parts.reverse()
    if draw(st.booleans()):
        return f"{vertical}-{horizontal}", f"{pick([' ', '-', '  ', '_']).join(parts)} corner"
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
    assert parse(request) == REGIONS[name]


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
    assert [region.name for region in parse_all(request)] == expected
    if len(expected) > 1:
        with pytest.raises(PipelineError, match="names more than one region"):
            parse(request)


@pytest.mark.parametrize("name", NAMES)
def test_names_are_requests(name: str) -> None:
    assert parse(name) == named(name) == REGIONS[name]
    assert parse_all(name) == (REGIONS[name],)


@pytest.mark.parametrize(
    ("request_", "names"),
    [
        ("compare the left and the right", ["left", "right"]),
        ("Compare the left to the right", ["left", "right"]),
        ("left/right", ["left", "right"]),
        ("is the top darker than the bottom?", ["top", "bottom"]),
        ("the upper left and right corners", ["top-left", "top-right"]),
        ("top and bottom left corners", ["top-left", "bottom-left"]),
        ("left, middle and right thirds", ["left third", "middle third", "right third"]),
        ("all four corners", ["top-left", "top-right", "bottom-left", "bottom-right"]),
        ("the center, and the whole image", ["center", "full"]),
        ("the left and the left-hand side", ["left"]),
        ("read it from left to right", ["full"]),
        ("a dog", ["full"]),
    ],
)
def test_several_regions_in_one_request(request_: str, names: list[str]) -> None:
    assert [region.name for region in parse_all(request_)] == names


@pytest.mark.parametrize(
    "request_", ["the middle of the left half", "left right", "the top left of the right"]
)
def test_a_region_inside_a_region_is_refused(request_: str) -> None:
    with pytest.raises(PipelineError, match=r"no word between them that makes a list.* only full, top-left"):
        parse_all(request_)


@pytest.mark.parametrize(
    ("request_", "quoted"),
    [
        ("Describe the corner", "corner"),
        ("the top corner", "top corner"),
        ("the right-hand corner and the top", "right hand corner"),
        ("the left quarter", "left quarter"),
        ("the left two thirds", "left two thirds"),
        ("the second third", "second third"),
        ("the north-east corner", "north east corner"),
        ("the western side", "western side"),
        ("top left and right", "top left and right"),
        ("top and bottom left", "top and bottom left"),
    ],
)
def test_a_place_that_cannot_be_told_lists_what_can_be_asked(request_: str, quoted: str) -> None:
    for read in (parse, parse_all, named):
        with pytest.raises(PipelineError, match=rf"is unclear: '{quoted}' .*; ask for full, top-left,"):
            read(request_)


@pytest.mark.parametrize("name", ["asdf", "the dog", "what is right now?", "1,2"])
def test_a_name_that_names_no_region_lists_those_there_are(name: str) -> None:
    with pytest.raises(PipelineError, match=r"names no region; allowed: full, .*bottom third|is not left,"):
        named(name)


@pytest.mark.parametrize(
    ("request_", "name"),
    [
        ("Describe the object in the top-right corner", "top-right"),
        ("upper right-hand corner", "top-right"),
        ("right-hand upper corner", "top-right"),
        ("topright", "top-right"),
        ("lower_left", "bottom-left"),
        ("the corner at the top left", "top-left"),
        ("the top corner on the left-hand side", "top-left"),
        ("top left, in the upper left corner", "top-left"),
        ("top left of the room", "top-left"),
        ("the left", "left"),
        ("Describe the left dog", "left"),
        ("the left side of the street", "left"),
        ("the left of the whole image", "left"),
        ("centre left", "left"),
        ("top of the picture", "top"),
        ("What is above?", "top"),
        ("top middle", "top"),
        ("right at the bottom", "bottom"),
        ("what is right in the middle?", "center"),
        ("top left right now", "top-left"),
        ("third on the right", "right"),
    ],
)
def test_ways_of_asking(request_: str, name: str) -> None:
    assert parse(request_).name == name


@pytest.mark.parametrize(
    "request_",
    [
        "Describe this image.",
        "asdf",
        "!?",
        "what is happening right now?",
        "is this the right colour?",
        "A dog, right?",
        "all right, what was left behind?",
        "what is left",
        "What's the bottom line?",
        "the book on top of the table",
        "the man to the left of the dog",
        "in the middle of the road",
        "the lamp above the table",
        "seen from above",
        "read it from left to right",
        "What is in her left hand?",
        "the dog facing left",
        "the second dog from the left",
        "the man in the top hat",
        "count 1, 2, 3",
        "the whole of the picture",
        "copyright and leftovers on a laptop",
        "the man at the street corner",
        "a chair in the corner of the room",
        "the third dog",
    ],
)
def test_ordinary_phrases_are_the_full_image(request_: str) -> None:
    assert parse(request_).name == "full"


@pytest.mark.parametrize(
    "request_",
    [
        "compare the left and the right",
        "top-left and bottom",
        "the middle of the left half",
        "the whole image and the left",
        "the left, 0,0,1,1",
        "0,0,1,1 and 0,0,1,0.5",
    ],
)
def test_two_regions_are_refused(request_: str) -> None:
    with pytest.raises(PipelineError, match=r"more than one region: .*ask for one of full, top-left"):
        parse(request_)


@pytest.mark.parametrize("request_", ["", " \n\t"])
def test_an_empty_request_is_refused(request_: str) -> None:
    with pytest.raises(PipelineError, match="the request is empty"):
        parse(request_)


VOCABULARY = (
    "the of in to top left right bottom center above third half corner whole image dog hand most "
    "now and or , box ( ) [ ] , | 0 1 0.5 9 px - nan"
)


words = st.sampled_from(VOCABULARY.split())


@given(st.one_of(st.text(), st.lists(words, max_size=12).map(" ".join), st.lists(words).map("".join)))
def test_any_text_gives_a_box_in_the_image_or_a_pipeline_error(request: str) -> None:
    try:
        found = [region.within(50, 50) for region in parse_all(request)]
    except PipelineError:
        return
    assert found
    for region in found:
        left, top, right, bottom = region.box
        assert 0 <= left < right <= 1
        assert 0 <= top < bottom <= 1
        assert math.copysign(1, left) == math.copysign(1, top) == 1
