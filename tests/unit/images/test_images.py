"""Every image becomes upright RGB, whatever its format, mode and metadata.

Run: .venv/bin/python -m pytest tests/unit/images/test_images.py
"""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import PipelineError
from pipeline.images.images import image_from_array, open_image

RED, WHITE = (255, 0, 0), (255, 255, 255)


def rgb_at(path: Path, x: int = 0, y: int = 0) -> tuple[int, int, int]:
    image = open_image(path, max_megapixels=1)
    assert image.mode == "RGB"
    pixel = image.getpixel((x, y))
    assert isinstance(pixel, tuple)
    return pixel[0], pixel[1], pixel[2]


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.bmp", "a.gif", "a.tiff"])
def test_each_format_is_read(tmp_path: Path, name: str) -> None:
    Image.new("RGB", (6, 4), RED).save(tmp_path / name)
    image = open_image(tmp_path / name, max_megapixels=1)
    assert image.size == (6, 4)
    red, green, blue = rgb_at(tmp_path / name)
    assert red > 240
    assert max(green, blue) < 15


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("1", 1, WHITE),
        ("L", 100, (100, 100, 100)),
        ("LA", (100, 255), (100, 100, 100)),
        ("LA", (0, 0), WHITE),
        ("RGB", (10, 20, 30), (10, 20, 30)),
        ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("RGBA", (10, 20, 30, 0), WHITE),
        ("RGBA", (0, 0, 0, 51), (204, 204, 204)),
        ("I;16", 0x6432, (0x64, 0x64, 0x64)),
        ("I;16", 0xFFFF, WHITE),
    ],
)
def test_png_modes_become_rgb(
    tmp_path: Path, mode: str, color: int | tuple[int, ...], expected: tuple[int, int, int]
) -> None:
    Image.new(mode, (3, 2), color).save(tmp_path / "a.png")
    assert rgb_at(tmp_path / "a.png") == expected


@pytest.mark.parametrize(("value", "expected"), [(0x6432, 0x64), (0xFFFF, 255), (1 << 20, 255), (-9, 0)])
def test_32_bit_grey_is_scaled_and_kept_in_range(tmp_path: Path, value: int, expected: int) -> None:
    Image.new("I", (3, 2), value).save(tmp_path / "a.tiff")
    assert rgb_at(tmp_path / "a.tiff") == (expected,) * 3


def test_big_endian_16_bit_grey(tmp_path: Path) -> None:
    Image.new("I;16B", (3, 2), 0x6432).save(tmp_path / "a.tiff")
    assert rgb_at(tmp_path / "a.tiff") == (0x64,) * 3


def test_16_bit_grey_keeps_its_contrast(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    levels = np.asarray(open_image(tmp_path / "a.png", max_megapixels=1))[..., 0]
    assert (levels == ramp >> 8).all()


@pytest.mark.parametrize(("transparency", "expected"), [(None, RED), (0, WHITE)])
def test_palette_with_and_without_transparency(
    tmp_path: Path, transparency: int | None, expected: tuple[int, int, int]
) -> None:
    image = Image.new("P", (3, 2), 0)
    image.putpalette([*RED, 0, 255, 0])
    image.save(tmp_path / "a.png", transparency=transparency)
    assert rgb_at(tmp_path / "a.png") == expected


def test_transparent_color_of_an_rgb_png_becomes_white(tmp_path: Path) -> None:
    Image.new("RGB", (3, 2), RED).save(tmp_path / "a.png", transparency=RED)
    assert rgb_at(tmp_path / "a.png") == WHITE


def test_cmyk_jpeg_keeps_its_colors(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg")
    red, green, blue = rgb_at(tmp_path / "a.jpg")
    assert red > 240
    assert max(green, blue) < 15


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    Image.new("F", (3, 2), 0.5).save(tmp_path / "a.tiff")
    with pytest.raises(PipelineError, match=r"a\.tiff has pixels of the kind F; allowed: "):
        open_image(tmp_path / "a.tiff", max_megapixels=1)


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in (RED, (0, 0, 255))]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert rgb_at(tmp_path / "a.gif") == RED


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize(
    ("orientation", "size", "corner"),
    [
        (1, (48, 32), "left top"),
        (2, (48, 32), "right top"),
        (3, (48, 32), "right bottom"),
        (4, (48, 32), "left bottom"),
        (5, (32, 48), "left top"),
        (6, (32, 48), "right top"),
        (7, (32, 48), "right bottom"),
        (8, (32, 48), "left bottom"),
    ],
)
def test_exif_orientation_is_applied(
    tmp_path: Path, suffix: str, orientation: int, size: tuple[int, int], corner: str
) -> None:
    image = Image.new("RGB", (48, 32), WHITE)
    image.paste(RED, (0, 0, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    image.save(path, exif=exif)
    upright = open_image(path, max_megapixels=1)
    assert upright.size == size
    x = 6 if "left" in corner else size[0] - 6
    y = 6 if "top" in corner else size[1] - 6
    red, green, _ = rgb_at(path, x, y)
    assert red > 200
    assert green < 60
    assert not upright.info, "an orientation left behind would be applied twice"


def test_unreadable_exif_does_not_cost_the_image(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.new("RGB", (6, 4), RED).save(tmp_path / "a.png", exif=b"Exif\0\0no TIFF header at all")
    assert open_image(tmp_path / "a.png", max_megapixels=1).size == (6, 4)
    assert "a.png: EXIF cannot be read" in caplog.text


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 3), (2, 3, 4)])
def test_arrays_become_images(shape: tuple[int, ...]) -> None:
    image = image_from_array(np.full(shape, 255, dtype=np.uint8))
    assert (image.mode, image.size, image.getpixel((0, 0))) == ("RGB", (3, 2), WHITE)


def test_transparent_array_becomes_white() -> None:
    assert image_from_array(np.zeros((1, 1, 4), dtype=np.uint8)).getpixel((0, 0)) == WHITE


def test_array_that_is_a_view() -> None:
    array = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)[::-1, ::2]
    assert (np.asarray(image_from_array(array)) == array).all()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 3), dtype=np.float32),
        np.zeros((2, 3, 2), dtype=np.uint8),
        np.zeros((3,), dtype=np.uint8),
        np.zeros((0, 3), dtype=np.uint8),
        np.zeros((1, 2, 3, 3), dtype=np.uint8),
    ],
)
def test_other_arrays_are_refused(array: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    with pytest.raises(PipelineError, match=r"an image array has shape \(.* and type .*allowed"):
        image_from_array(array)
