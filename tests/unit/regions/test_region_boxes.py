"""Boxes in numbers, fractions and pixels, and the crops that they give."""

import math
from typing import Any

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

FRACTIONS, PIXELS = (0.5, 0.0, 1.0, 0.5), (10.0, 20.0, 300.0, 400.0)
fractions = st.floats(0, 1, allow_nan=False)
sizes = st.integers(1, 60)


@pytest.mark.parametrize(
    ("request_", "box", "pixels"),
    [
        ("0.5,0,1,0.5", FRACTIONS, False),
        ("[0.5, 0, 1, 0.5]", FRACTIONS, False),
        ("box(0.5,0,1,0.5)", FRACTIONS, False),
        ("Describe box: (.5, -0, 1.0, 5e-1).", FRACTIONS, False),
        ("box 0.5,0,1,.5", FRACTIONS, False),
        ("0.5 0 1 0.5", FRACTIONS, False),
        ("bbox [0.5 0 1.0 0.5]", FRACTIONS, False),
        ("10,20,300,400", PIXELS, True),
        ("box(10, 20, 300, 400)", PIXELS, True),
        ("[10px, 20px, 300px, 400px]", PIXELS, True),
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


def test_boxes_stand_in_lists_too() -> None:
    regions = regions_from_request("compare 0,0,.5,1 with box(10,20,30,40), and the left")
    assert regions == (
        Region("box", (0.0, 0.0, 0.5, 1.0)),
        Region("box", (10.0, 20.0, 30.0, 40.0), pixels=True),
        REGIONS["left"],
    )


@pytest.mark.parametrize(
    "box",
    """0,0,1.5,1 | -0.1,0,1,1 | 1,0,0,1 | 0,1,1,0 | 0.5,0,0.5,1 | 0,0,1 | [0,0] | 0,0,1,1,1 | 0.5,0,100,50
    0,0,0.5,1px | 100,50,50,80 | box(a,b,c,d) | box(nan,0,1,1) | box(0,0,inf,1) | box(0,0,50%,1) | 0,0,1,1e999
    x=10 y=10 w=100 h=100 | 0.1 0.1 0.5 | 10x20+30+40""".replace("\n", " | ").split(" | "),
)
def test_impossible_boxes_are_named(box: str) -> None:
    box = box.strip()
    with pytest.raises(PipelineError) as caught:
        region_from_request(f"Describe {box}" if box.count(",") > 2 or "[" in box else box)
    assert box in str(caught.value)


@pytest.mark.parametrize("numbers", [(0, 0, 1), (0, 0, 1.5, 1), (math.nan, 0, 1, 1)])
def test_impossible_numbers_are_refused(numbers: Any) -> None:
    with pytest.raises(PipelineError, match="left, top, right, bottom"):
        region_from_box(numbers)


@given(fractions, fractions, fractions, fractions, st.sampled_from(["{}", "[{}]", "look at box({}), please"]))
def test_boxes_are_read_back_or_refused(x0: float, y0: float, x1: float, y1: float, around: str) -> None:
    request = around.format(f"{x0!r}, {y0!r}, {x1!r}, {y1!r}")
    if x0 < x1 and y0 < y1:
        assert region_from_request(request).box == (x0, y0, x1, y1)
    else:
        with pytest.raises(PipelineError):
            region_from_request(request)


def test_pixels_beyond_the_image_are_refused() -> None:
    assert region_from_request("10,20,40,40").within(40, 80).box == (0.25, 0.25, 1.0, 0.5)
    with pytest.raises(PipelineError, match=r"10,20,40,40px .* 39 x 80 pixels"):
        region_from_request("10,20,40,40").within(39, 80)


def white_crop(region: Region, width: int, height: int) -> Image.Image:
    """The crop of a white image, which would be black beyond its edges."""
    piece = crop(Image.new("RGB", (width, height), "white"), region.within(width, height).box)
    assert piece.getcolors() == [(piece.width * piece.height, (255, 255, 255))]
    assert 1 <= piece.width <= width
    assert 1 <= piece.height <= height
    return piece


@given(sizes, sizes, st.sampled_from(list(REGIONS)))
def test_crops_of_named_regions_are_inside_the_image(width: int, height: int, name: str) -> None:
    white_crop(REGIONS[name], width, height)


@given(sizes, sizes, fractions, fractions, fractions, fractions)
def test_crops_of_fractions_are_inside_the_image(
    width: int, height: int, x0: float, y0: float, x1: float, y1: float
) -> None:
    assume(x0 != x1 and y0 != y1)
    white_crop(region_from_box((min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))), width, height)


@given(sizes, sizes, st.data())
def test_crops_of_pixels_are_those_pixels(width: int, height: int, data: st.DataObject) -> None:
    x0, y0 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x1, y1 = data.draw(st.integers(x0 + 1, width)), data.draw(st.integers(y0 + 1, height))
    piece = white_crop(region_from_request(f"{x0},{y0},{x1},{y1}px"), width, height)
    assert piece.size == (x1 - x0, y1 - y0)
