"""Every image becomes upright RGB, whatever its format, mode and metadata; crops lie inside and tile it.

Run: .venv/bin/python -m pytest tests/unit/images/test_images.py
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.errors import PipelineError
from pipeline.images.images import crop, describe_image, image_from_array, image_from_pil, open_image

RED, WHITE, GRAY = (255, 0, 0), (255, 255, 255), (0x64, 0x64, 0x64)
CLOSE = 15  # what lossy formats may change

# Mode, color, file, options of saving, expected color.
PIXELS: list[tuple[str, Any, str, dict[str, Any], tuple[int, int, int]]] = [
    *(
        ("RGB", RED, f"a.{suffix}", {}, RED)
        for suffix in ("jpg", "png", "webp", "bmp", "gif", "tiff", "avif", "jp2")
    ),
    ("1", 1, "a.png", {}, WHITE),
    ("L", 100, "a.png", {}, GRAY),
    ("LA", (100, 255), "a.png", {}, GRAY),
    ("LA", (0, 0), "a.png", {}, WHITE),
    ("RGBA", (10, 20, 30, 255), "a.png", {}, (10, 20, 30)),
    ("RGBA", (10, 20, 30, 0), "a.png", {}, WHITE),
    ("RGBA", (0, 0, 0, 51), "a.png", {}, (204, 204, 204)),
    ("I;16", 0x6432, "a.png", {}, GRAY),
    ("I;16", 0xFFFF, "a.png", {}, WHITE),
    ("I;16B", 0x6432, "a.tiff", {}, GRAY),
    ("I", 0x6432, "a.tiff", {}, GRAY),
    ("I", 1 << 20, "a.tiff", {}, WHITE),
    ("I", -9, "a.tiff", {}, (0, 0, 0)),
    ("P", 0, "a.png", {}, (0, 0, 0)),
    ("P", 0, "a.png", {"transparency": 0}, WHITE),
    ("RGB", RED, "a.png", {"transparency": RED}, WHITE),
    ("CMYK", (0, 255, 255, 0), "a.jpg", {}, RED),
    ("RGB", RED, "a.gif", {"save_all": True, "append_images": [Image.new("RGB", (16, 16))]}, RED),
]


@pytest.mark.parametrize(("mode", "color", "name", "options", "expected"), PIXELS)
def test_every_format_and_mode_becomes_rgb(
    tmp_path: Path, mode: str, color: Any, name: str, options: dict[str, Any], expected: tuple[int, ...]
) -> None:
    Image.new(mode, (16, 16), color).save(tmp_path / name, **options)
    image = open_image(tmp_path / name, max_megapixels=1)
    assert (image.mode, image.size) == ("RGB", (16, 16))
    limit = CLOSE if name.endswith(("jpg", "webp", "avif")) else 0
    assert np.abs(np.asarray(image).astype(int) - expected).max() <= limit


def test_16_bit_gray_keeps_its_contrast(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    levels = np.asarray(open_image(tmp_path / "a.png", max_megapixels=1))[..., 0]
    assert (levels == ramp >> 8).all()


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff", "avif"])
@pytest.mark.parametrize(
    ("orientation", "size", "corner"),
    [
        (1, (48, 32), (6, 6)),
        (2, (48, 32), (42, 6)),
        (3, (48, 32), (42, 26)),
        (4, (48, 32), (6, 26)),
        (5, (32, 48), (6, 6)),
        (6, (32, 48), (26, 6)),
        (7, (32, 48), (26, 42)),
        (8, (32, 48), (6, 42)),
    ],
)
def test_exif_orientation_is_applied(
    tmp_path: Path, suffix: str, orientation: int, size: tuple[int, int], corner: tuple[int, int]
) -> None:
    image = Image.new("RGB", (48, 32), WHITE)
    image.paste(RED, (0, 0, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    image.save(path, exif=exif)
    upright = open_image(path, max_megapixels=1)
    assert describe_image(path, max_megapixels=1) == (hashlib.sha256(path.read_bytes()).hexdigest(), *size)
    assert upright.size == size
    red, green, _ = np.asarray(upright)[corner[1], corner[0]]
    assert red > 200
    assert green < 60
    assert not upright.info, "an orientation left behind would be applied twice"


def test_heic_is_read_upright_where_its_package_is_installed(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (48, 32), RED).save(tmp_path / "a.heic", exif=exif.tobytes())
    image = open_image(tmp_path / "a.heic", max_megapixels=1)
    assert image.size == (32, 48)
    assert np.abs(np.asarray(image).astype(int) - RED).max() <= CLOSE


def test_unreadable_exif_does_not_cost_the_image(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.new("RGB", (6, 4), RED).save(tmp_path / "a.png", exif=b"Exif\0\0no TIFF header at all")
    assert open_image(tmp_path / "a.png", max_megapixels=1).size == (6, 4)
    assert "a.png: EXIF cannot be read" in caplog.text


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 3), (2, 3, 4)])
def test_arrays_and_pil_images_become_images(shape: tuple[int, ...]) -> None:
    array = np.full(shape, 255, np.uint8)
    for image in (image_from_array(array), image_from_pil(Image.fromarray(array))):
        assert (image.mode, image.size, image.getpixel((2, 1))) == ("RGB", (3, 2), WHITE)


@pytest.mark.parametrize(
    "array", [np.zeros((2, 3, 2), np.uint8), np.zeros((2, 3), np.float32), np.zeros((0, 3, 3), np.uint8)]
)
def test_other_arrays_are_refused(array: np.ndarray) -> None:
    with pytest.raises(PipelineError, match=rf"shape \({array.shape[0]}, 3.* type {array.dtype}"):
        image_from_array(array)


# --- crops ----------------------------------------------------------------------------------------

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
    assert min(part.shape[:2]) >= 1
    assert part[..., :2].min() >= 1
    assert abs(part.shape[1] - (across[1] - across[0]) * width) <= 1
    assert abs(part.shape[0] - (down[1] - down[0]) * height) <= 1


@given(st.integers(2, 300), st.floats(0.26, 0.74))
def test_crops_that_share_an_edge_tile_the_image(width: int, edge: float) -> None:
    image = Image.new("RGB", (width, 3))
    assert crop(image, (0, 0, edge, 1)).width + crop(image, (edge, 0, 1, 1)).width == width


@pytest.mark.parametrize(
    "box",
    [(0.5, 0, 0.5, 1), (0.6, 0, 0.4, 1), (-0.1, 0, 1, 1), (0, 0, 1, 1.1), (0, float("nan"), 1, 1)],
)
def test_an_impossible_box_is_refused(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(PipelineError, match=r"the box \(.*\) is not a part of an image"):
        crop(Image.new("RGB", (4, 4)), box)


def test_a_line_of_pixels_is_refused() -> None:
    with pytest.raises(PipelineError, match=r"the box .* 400 x 1 pixels"):
        crop(Image.new("RGB", (400, 300)), (0, 0, 1, 0.003))
