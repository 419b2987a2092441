"""Crops lie inside the image, are never empty, and tile it.

Run: .venv/bin/python -m pytest tests/unit/images/test_crops.py
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.errors import PipelineError
from pipeline.images.images import crop

RED, WHITE = (255, 0, 0), (255, 255, 255)

spans = (
    st.tuples(st.floats(0, 1), st.floats(0, 1))
    .map(lambda ends: (min(ends), max(ends)))
    .filter(lambda span: span[0] < span[1])
)


@given(st.integers(1, 40), st.integers(1, 40), spans, spans)
def test_crops_lie_inside_and_are_never_empty(
    width: int, height: int, across: tuple[float, float], down: tuple[float, float]
) -> None:
    # Every pixel says where it is, so that a crop which reached outside would show black.
    ys, xs = np.mgrid[1 : height + 1, 1 : width + 1]
    image = Image.fromarray(np.stack([xs, ys, xs * 0], axis=-1).astype(np.uint8))
    part = np.asarray(crop(image, (across[0], down[0], across[1], down[1])))
    assert part.shape[0] >= 1
    assert part.shape[1] >= 1
    assert part[..., :2].min() >= 1
    assert abs(part.shape[1] - (across[1] - across[0]) * width) <= 1
    assert abs(part.shape[0] - (down[1] - down[0]) * height) <= 1


@given(st.integers(2, 300), st.floats(0.26, 0.74))
def test_crops_that_share_an_edge_tile_the_image(width: int, edge: float) -> None:
    image = Image.new("RGB", (width, 3))
    left, right = crop(image, (0, 0, edge, 1)), crop(image, (edge, 0, 1, 1))
    assert left.width + right.width == width


def test_crop_of_a_quadrant_and_of_all() -> None:
    image = Image.new("RGB", (10, 8))
    image.paste(RED, (5, 0, 10, 4))
    quadrant = crop(image, (0.5, 0, 1, 0.5))
    assert (quadrant.size, quadrant.getcolors()) == ((5, 4), [(20, RED)])
    assert crop(image, (0, 0, 1, 1)).size == (10, 8)


@pytest.mark.parametrize(
    "box",
    [(0.5, 0, 0.5, 1), (0.6, 0, 0.4, 1), (-0.1, 0, 1, 1), (0, 0, 1, 1.1), (0, float("nan"), 1, 1)],
)
def test_what_is_not_a_box_is_refused(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(PipelineError, match=r"the box \(.*\) is not a part of an image; allowed"):
        crop(Image.new("RGB", (4, 4)), box)


def test_a_line_of_pixels_is_refused() -> None:
    with pytest.raises(PipelineError, match=r"the box .* of an image has 400 x 1 pixels: one side is more"):
        crop(Image.new("RGB", (400, 300)), (0, 0, 1, 0.003))
