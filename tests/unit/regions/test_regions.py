"""Requests in words: the regions that they name, or a refusal; never another region."""

import itertools
import re
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pipeline.errors import PipelineError
from pipeline.regions.regions import (
    REGIONS,
    Region,
    region_from_box,
    region_from_name,
    region_from_request,
    regions_from_request,
)
from pipeline.regions.words import TABLE
from tests.refusals import refusal

ROWS = [row.split() for row in TABLE.strip().splitlines()]
WORDS = {word: letter for letter, _, *words in ROWS for word in words}


def words_for(letters: str, name: str = "") -> list[str]:
    """Words of the table by their letter, or by the place that they name."""
    return [
        w for letter, its_name, *words in ROWS if letter in letters and name in ("", its_name) for w in words
    ]


EDGES = {name: words_for("VbH", name) for name in ("top", "bottom", "left", "right")}
CENTER, NOUNS = words_for("C"), [*words_for("S"), "half", "edge", "border"]
# A region's name and words for it, by the kind of region.
CORNERS = [
    (f"{v}-{h}", pair)
    for v, h in itertools.product(("top", "bottom"), ("left", "right"))
    for words in itertools.product(EDGES[v], EDGES[h])
    for pair in (words, words[::-1])
]
KINDS = [
    [("full", f"{whole} {image}") for whole in words_for("W") for image in words_for("I")],
    [("center", f"{word} {noun}".strip()) for word in CENTER for noun in ("", *NOUNS)],
    [(name, f"{w} {noun}".strip()) for name in EDGES for w in EDGES[name] for noun in ("", *NOUNS, *CENTER)],
    # Without a noun of place "the left hand" is somebody's.
    [(name, f"{name}-{w} {noun}") for name in ("left", "right") for w in ("most", "hand") for noun in NOUNS],
    [(f"{name} third", f"{w} {n}") for name in EDGES for w in EDGES[name] for n in ("third", "1/3", "33%")],
    [("middle third", f"{word} third") for word in CENTER],
    [(name, gap.join(pair)) for name, pair in CORNERS for gap in (" ", "-", "  ", "_")],
    [(name, f"{a} {noun} on the {b} side") for name, (a, b) in CORNERS for noun in ("corner", "part")],
]
places = st.one_of(*map(st.sampled_from, KINDS))
change_case = st.sampled_from([str.lower, str.upper, str.title])


@st.composite
def phrasings(draw: st.DrawFn) -> tuple[str, str]:
    """A region's name and one way of asking for it."""
    name, words = draw(places)
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
    slipped = [before + letter + word[at:], before + after, before + letter + after, moved]
    return draw(st.sampled_from(slipped))


@given(phrasings(), st.data())
def test_a_slip_is_never_answered_for_another_region(phrasing: tuple[str, str], data: st.DataObject) -> None:
    name, request = phrasing
    words = re.split(r"(\W+|_)", request.lower())
    at = data.draw(st.sampled_from([n for n, word in enumerate(words) if word.isalpha() and len(word) > 1]))
    slip = data.draw(slips(words[at]))
    # Another word that is understood, or ordinary English, is no slip.
    assume(slip not in WORDS and len(slip) > 2)
    words[at] = slip
    with suppress(PipelineError):
        assert [region.name for region in regions_from_request("".join(words))] == [name]


# Words without an everyday use that takes the place out of the request.
plain_words = st.sampled_from(["dog", "a", "red", "show", *words_for("VHCDKESthngJu")])


@given(st.lists(plain_words, min_size=1, max_size=8))
@example(["left", "third", "top"])
def test_an_answer_holds_every_place_of_the_request_and_no_other(words: list[str]) -> None:
    asked = {name for letter, name, *its_words in ROWS if letter in "VHC" for w in words if w in its_words}
    try:
        regions = regions_from_request(" ".join(words))
    except PipelineError:
        return
    named = {part.replace("middle", "center") for r in regions for part in re.findall(r"\w+", r.name)}
    if "center" not in named:  # "top center" is the top
        asked.discard("center")
    assert named - {"third"} == (asked or {"full"})


@given(
    st.lists(places, min_size=2, max_size=4),
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
        refusal(region_from_request, request, match="names more than one region")


WAYS = """
compare the left and the right -> left, right | Compare the left to the right -> left, right
left/right -> left, right | is the top darker than the bottom? -> top, bottom | top right quarter -> top-right
the upper left and right corners -> top-left, top-right | bottom and top left corners -> bottom-left, top-left
left, middle and right thirds -> left third, middle third, right third | the left ⅓ -> left third
all four corners -> top-left, top-right, bottom-left, bottom-right | the left 50% -> left
the center, and the whole image -> center, full | the left and the left-hand side -> left
top left, in the upper left corner -> top-left | top left of the room -> top-left
the left side of the street -> left | the left of the whole image -> left | centre left -> left
top of athe whole picture -> top | the third dog on the left -> left
does the left part show 2 dogs and 3 cats? -> left
compare 0,0,.5,1 with box(10,20,30,40), and the left -> box, box, left
"""
# Ordinary phrases that name no place of the image.
FULL = """
Describe this image. | describe the dog | what is here? | asdf | !? | the third dog | the whole of the picture
what is happening right now? | what was left behind? | seen from above | read it from left to right
the book on top of the table | the man to the left of the dog | in the middle of the road | in mid-air
a town northwest of the river | is the light bright at night? stop, then write about the button later
their paper tower, a hot dog, a lot of power and two super flowers | copyright and leftovers on a laptop
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
        column 2 | the base of the image | the periphery | the rim | both sides | the sides | two sides
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
        refusal(read, request_, match=rf"'.+' .*{reason}.*full, top-left,")


@pytest.mark.parametrize("name", ["the dog", "what is right now?", " \n\t"])
def test_a_name_that_names_no_region_lists_the_regions(name: str) -> None:
    refusal(region_from_name, name, match=r"Ask for full, .*bottom third")


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
        for left, top, right, bottom in (region.box for region in regions):
            assert 0 <= left < right <= 1
            assert 0 <= top < bottom <= 1


# --- boxes in numbers -----------------------------------------------------------------------------

FRACTIONS, PIXELS = (0.5, 0.0, 1.0, 0.5), (10.0, 20.0, 300.0, 400.0)
fractions = st.floats(0, 1, allow_nan=False)


@pytest.mark.parametrize(
    ("request_", "box", "pixels"),
    [
        ("0.5,0,1,0.5", FRACTIONS, False),
        ("box(0.5,0,1,0.5)", FRACTIONS, False),
        ("Describe box: (.5, -0, 1.0, 5e-1).", FRACTIONS, False),
        ("bbox [0.5 0 1.0 0.5]", FRACTIONS, False),
        ("10,20,300,400", PIXELS, True),
        ("at 10,20,300.0,400 pixels", PIXELS, True),
        ("0,0,1,1", (0.0, 0.0, 1.0, 1.0), False),
        ("0,0,1,1px", (0.0, 0.0, 1.0, 1.0), True),
        ("0,0,1,2", (0.0, 0.0, 1.0, 2.0), True),
    ],
)
def test_numbers_above_1_are_pixels_and_others_fractions(
    request_: str, box: tuple[float, float, float, float], pixels: bool
) -> None:
    assert region_from_request(request_) == Region("box", box, pixels)
    assert region_from_box(f"{box}px" if pixels else box) == Region("box", box, pixels)


@pytest.mark.parametrize(
    "box",
    """0,0,1.5,1 | -0.1,0,1,1 | 1,0,0,1 | 0,1,1,0 | 0.5,0,0.5,1 | 0,0,1 | [0,0] | 0,0,1,1,1 | 0.5,0,100,50
    0,0,0.5,1px | 100,50,50,80 | box(a,b,c,d) | box(nan,0,1,1) | box(0,0,inf,1) | box(0,0,50%,1) | 0,0,1,1e999
    x=10 y=10 w=100 h=100 | 0.1 0.1 0.5 | 10x20+30+40""".replace("\n", " | ").split(" | "),
)
def test_impossible_boxes_are_named(box: str) -> None:
    box = box.strip()
    request = f"Describe {box}" if box.count(",") > 2 or "[" in box else box
    assert box in refusal(region_from_request, request)


@given(fractions, fractions, fractions, fractions, st.sampled_from(["{}", "[{}]", "look at box({}), please"]))
def test_boxes_are_read_back_or_refused(x0: float, y0: float, x1: float, y1: float, around: str) -> None:
    request = around.format(f"{x0!r}, {y0!r}, {x1!r}, {y1!r}")
    if x0 < x1 and y0 < y1:
        assert region_from_request(request).box == (x0, y0, x1, y1)
    else:
        refusal(region_from_request, request)


def test_pixels_beyond_the_image_are_refused() -> None:
    assert region_from_request("10,20,40,40").within(40, 80).box == (0.25, 0.25, 1.0, 0.5)
    refusal(region_from_request("10,20,40,40").within, 39, 80, match=r"10,20,40,40px .* 39 x 80 pixels")
