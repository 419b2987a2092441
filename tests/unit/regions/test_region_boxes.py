"""Boxes in numbers, fractions and pixels, and the crops that they give.

Run: .venv/bin/python -m pytest tests/unit/regions/test_region_boxes.py
"""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from pipeline.errors import PipelineError
from pipeline.images.images import crop
from pipeline.regions.regions import (
    REGIONS,
    Region,
    region_from_box,
    region_from_request,
    regions_from_request,
)


def test_boxes_stand_in_lists_too() -> None:
    found = regions_from_request("compare 0,0,.5,1 with box(10,20,30,40), and the left")
    assert found == (
        Region("box", (0.0, 0.0, 0.5, 1.0)),
        Region("box", (10.0, 20.0, 30.0, 40.0), pixels=True),
        REGIONS["left"],
    )


def test_boxes_lie_in_the_image() -> None:
    for region in REGIONS.values():
        left, top, right, bottom = region.box
        assert 0 <= left < right <= 1
        assert 0 <= top < bottom <= 1


@pytest.mark.parametrize(
    "request_",
    [
        "0.5,0,1,0.5",
        "[0.5, 0, 1, 0.5]",
        "box(0.5,0,1,0.5)",
        "Describe box: (.5, -0, 1.0, 5e-1).",
        "box 0.5,0,1,.5",
        "0.5 0 1 0.5",
        "bbox [0.5 0 1.0 0.5]",
    ],
)
def test_explicit_boxes(request_: str) -> None:
    assert region_from_request(request_) == Region("box", (0.5, 0.0, 1.0, 0.5))


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
        "0.5,0,100,50",
        "0,0,0.5,1px",
        "100,50,50,80",
        "box(a,b,c,d)",
        "box(nan,0,1,1)",
        "box(0,0,inf,1)",
        "box(0,0,50%,1)",
        "0,0,1,1e999",
        "x=10 y=10 w=100 h=100",
        "0.1 0.1 0.5",
        "10x20+30+40",
    ],
)
def test_impossible_boxes_are_named(box: str) -> None:
    with pytest.raises(PipelineError) as caught:
        region_from_request(f"Describe {box}" if box.count(",") > 2 or "[" in box else box)
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
        assert region_from_request(request).box == (x0, y0, x1, y1)
    else:
        with pytest.raises(PipelineError):
            region_from_request(request)


@pytest.mark.parametrize(
    "request_",
    ["10,20,300,400", "box(10, 20, 300, 400)", "[10px, 20px, 300px, 400px]", "at 10,20,300.0,400 pixels"],
)
def test_numbers_above_1_are_pixels(request_: str) -> None:
    assert region_from_request(request_) == Region("box", (10.0, 20.0, 300.0, 400.0), pixels=True)


def test_numbers_to_1_are_fractions_unless_px_stands_behind_them() -> None:
    assert region_from_request("0,0,1,1") == Region("box", REGIONS["full"].box)
    assert region_from_request("0,0,1,1px") == Region("box", REGIONS["full"].box, pixels=True)
    assert region_from_request("0,0,1,2").pixels


def test_boxes_of_numbers_are_those_of_text() -> None:
    assert region_from_box((0.5, 0, 1, 0.5)) == region_from_request("0.5,0,1,0.5")
    assert region_from_box((10, 20, 300, 400)) == region_from_request("10,20,300,400")
    for wrong in ((0, 0, 1), (0, 0, 1.5, 1), (math.nan, 0, 1, 1)):
        with pytest.raises(PipelineError, match="is not left, top, right, bottom"):
            region_from_box(wrong)


def test_pixels_beyond_the_image_are_refused() -> None:
    assert region_from_request("10,20,40,40").within(40, 80).box == (0.25, 0.25, 1.0, 0.5)
    with pytest.raises(PipelineError, match=r"box 10,20,40,40px reaches beyond the image of 39 x 80 pixels"):
        region_from_request("10,20,40,40").within(39, 80)


sizes = st.integers(1, 60)


def white(width: int, height: int) -> Image.Image:
    """Beyond its edges a crop would be black."""
    return Image.new("RGB", (width, height), "white")


def colors_of(image: Image.Image) -> list[tuple[int, object]] | None:
    colors: list[tuple[int, object]] | None = image.getcolors()  # type: ignore[assignment]
    return colors


@given(sizes, sizes, st.sampled_from(list(REGIONS)))
def test_crops_of_named_regions_are_inside_the_image_and_never_empty(
    width: int, height: int, name: str
) -> None:
    cut = crop(white(width, height), REGIONS[name].within(width, height).box)
    assert colors_of(cut) == [(cut.width * cut.height, (255, 255, 255))]
    assert 1 <= cut.width <= width
    assert 1 <= cut.height <= height


@given(sizes, sizes, fractions, fractions, fractions, fractions)
def test_crops_of_fractions_are_inside_the_image_and_never_empty(
    width: int, height: int, x0: float, y0: float, x1: float, y1: float
) -> None:
    assume(x0 != x1 and y0 != y1)
    region = region_from_box((min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)))
    cut = crop(white(width, height), region.within(width, height).box)
    assert colors_of(cut) == [(cut.width * cut.height, (255, 255, 255))]


@given(sizes, sizes, st.data())
def test_crops_of_pixels_are_those_pixels(width: int, height: int, data: st.DataObject) -> None:
    x0, y0 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x1, y1 = data.draw(st.integers(x0 + 1, width)), data.draw(st.integers(y0 + 1, height))
    region = region_from_request(f"{x0},{y0},{x1},{y1}px")
    cut = crop(white(width, height), region.within(width, height).box)
    assert cut.size == (x1 - x0, y1 - y0)
    assert colors_of(cut) == [(cut.width * cut.height, (255, 255, 255))]
