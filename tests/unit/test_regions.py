"""Requests in words and their regions: `pytest tests/unit/test_regions.py`."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import PipelineError
from pipeline.regions import NAMES, REGIONS, Region, parse

VERTICAL = {
    "top": ["top", "topmost", "upper", "uppermost"],
    "bottom": ["bottom", "bottommost", "lower", "lowermost"],
}
HORIZONTAL = {
    "left": ["left", "leftmost", "left-most", "left-hand"],
    "right": ["right", "rightmost", "right-most", "right-hand"],
}
CENTER = ["center", "centre", "central", "middle"]
HALVES = ["side", "half", "part", "area", "edge"]


@st.composite
def phrasings(draw: st.DrawFn) -> tuple[str, str]:
    """A region's name and one way of asking for it, after the grammar of the module's docstring."""

    def pick(options: Sequence[str]) -> str:
        return draw(st.sampled_from(options))

    kind = pick(["corner", "edge", "center", "third", "full"])
    if kind == "full":
        name, words = (
            "full",
            f"{pick(['whole', 'entire', 'full'])} {pick(['image', 'picture', 'scene'])}",
        )
    elif kind == "center":
        name, words = "center", f"{pick(CENTER)} {pick(['', 'part', 'area'])}"
    elif kind == "third":
        side = pick(["top", "bottom", "left", "right", "middle"])
        synonyms = {**VERTICAL, **HORIZONTAL, "middle": CENTER}[side]
        name, words = f"{side} third", f"{pick(synonyms)} third"
    elif kind == "edge":
        name = pick(["top", "bottom", "left", "right"])
        words = f"{pick({**VERTICAL, **HORIZONTAL}[name])} {pick(HALVES)}"
    else:
        vertical, horizontal = pick(list(VERTICAL)), pick(list(HORIZONTAL))
        parts = [pick(VERTICAL[vertical]), pick(HORIZONTAL[horizontal])]
        if draw(st.booleans()):
            parts.reverse()
        name, words = (
            f"{vertical}-{horizontal}",
            f"{pick([' ', '-', '  ', '_']).join(parts)} corner",
        )
    before = pick(["", "the ", "Describe the object in the ", "what can be seen at the "])
    after = pick(["", ".", "?", " of the image", " of the whole picture", ", please!"])
    if name == "full":
        after = pick(["", ".", ", please"])
    change_case = draw(st.sampled_from([str.lower, str.upper, str.title]))
    return name, change_case(before + words + after)


@given(phrasings())
def test_phrasings_of_the_grammar_name_their_region(phrasing: tuple[str, str]) -> None:
    name, request = phrasing
    assert parse(request) == REGIONS[name]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_requests(name: str) -> None:
    assert parse(name).name == name


def test_boxes_lie_in_the_image() -> None:
    for region in REGIONS.values():
        left, top, right, bottom = region.box
        assert 0 <= left < right <= 1
        assert 0 <= top < bottom <= 1


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


@pytest.mark.parametrize(
    "request_",
    [
        "0.5,0,1,0.5",
        "[0.5, 0, 1, 0.5]",
        "box(0.5,0,1,0.5)",
        "Describe box: (.5, -0, 1.0, 5e-1).",
        "box 0.5,0,1,.5",
    ],
)
def test_explicit_boxes(request_: str) -> None:
    assert parse(request_) == Region("box", (0.5, 0.0, 1.0, 0.5))


@pytest.mark.parametrize(
    "box",
    [
        "0,0,1.5,1",
        "-0.1,0,1,1",
        "1,0,0,1",
        "0,1,1,0",
        "0.5,0,0.5,1",
        "0,0,1",
        "[0,0]",
        "0,0,1,1,1",
        "100,50,200,80",
        "box(a,b,c,d)",
        "box(nan,0,1,1)",
        "box(0,0,inf,1)",
        "box(0,0,50%,1)",
        "0,0,1,1e999",
    ],
)
def test_impossible_boxes_are_named(box: str) -> None:
    with pytest.raises(PipelineError) as caught:
        parse(f"Describe {box}" if box.count(",") > 2 or "[" in box else box)
    assert box in str(caught.value)


fractions = st.floats(0, 1, allow_nan=False)


@given(
    fractions,
    fractions,
    fractions,
    fractions,
    st.sampled_from(["{}", "[{}]", "look at box({}), please"]),
)
def test_boxes_are_read_back_or_refused(x0: float, y0: float, x1: float, y1: float, around: str) -> None:
    request = around.format(f"{x0!r}, {y0!r}, {x1!r}, {y1!r}")
    if x0 < x1 and y0 < y1:
        assert parse(request).box == (x0, y0, x1, y1)
    else:
        with pytest.raises(PipelineError):
            parse(request)


VOCABULARY = (
    "the of in to top left right bottom center above third half corner whole image dog hand most "
    "now box ( ) [ ] , | 0 1 0.5 - nan"
)
words = st.sampled_from(VOCABULARY.split())


@given(st.one_of(st.text(), st.lists(words, max_size=12).map(" ".join), st.lists(words).map("".join)))
def test_any_text_gives_a_box_in_the_image_or_a_pipeline_error(request: str) -> None:
    try:
        region = parse(request)
    except PipelineError:
        return
    left, top, right, bottom = region.box
    assert 0 <= left < right <= 1
    assert 0 <= top < bottom <= 1
    assert math.copysign(1, left) == math.copysign(1, top) == 1
