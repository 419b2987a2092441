"""Images of every kind become upright RGB, damaged ones sentences; crops never leave the image.

Run: .venv/bin/python -m pytest tests/unit/test_images.py
"""

import hashlib
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.errors import PipelineError
from pipeline.images import crop, describe_image, image_from_array, open_image

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


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"gone\.jpg does not exist"):
        open_image(tmp_path / "gone.jpg", max_megapixels=1)


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    with pytest.raises(PipelineError, match=r"a\.jpg is empty \(0 bytes\)"):
        open_image(tmp_path / "a.jpg", max_megapixels=1)


def test_folder(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"is a folder, expected an image file"):
        open_image(tmp_path, max_megapixels=1)


def test_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(PipelineError, match=r"a\.jpg is no regular file"):
        open_image(tmp_path / "a.jpg", max_megapixels=1)


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_impossible_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(PipelineError, match=r"cannot read .*/"):
        open_image(tmp_path / name, max_megapixels=1)


@pytest.mark.parametrize(
    "content",
    [
        b"<html>404</html>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
        b"P6 1 1 255\nabc",
    ],
)
def test_what_is_no_image_or_of_a_format_never_decoded(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(PipelineError, match=r"a\.jpg is not a readable image; allowed: JPEG, PNG"):
        open_image(tmp_path / "a.jpg", max_megapixels=1)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "gif", "tiff", "webp"])
def test_truncated_file(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    # A TIFF keeps its table of contents at the end: half a file is then no TIFF at all.
    with pytest.raises(PipelineError, match=rf"a\.{suffix} is (truncated or damaged|not a readable)"):
        open_image(path, max_megapixels=1)


def test_damaged_png_data(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), RED).save(tmp_path / "a.png")
    content = bytearray((tmp_path / "a.png").read_bytes())
    start = content.index(b"IDAT") + 6
    content[start : start + 8] = b"\xff" * 8
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(PipelineError, match=r"a\.png is truncated or damaged"):
        open_image(tmp_path / "a.png", max_megapixels=1)


def png_claiming(width: int, height: int) -> bytes:
    """A PNG header with nothing behind it: enough to know the size, too little to decode."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    header = struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + header + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", 0)


def test_other_bytes_than_those_listed_are_never_decoded(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png_claiming(60_000, 60_000))
    with pytest.raises(PipelineError, match=r"a\.png has changed since it was listed; run `dvc repro`"):
        open_image(path, max_megapixels=1, sha256="0" * 64)
    Image.new("RGB", (5, 4), RED).save(path)
    listed = hashlib.sha256(path.read_bytes()).hexdigest()
    assert open_image(path, max_megapixels=1, sha256=listed).getpixel((0, 0)) == RED


def test_too_many_pixels_is_known_from_the_header(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png_claiming(2000, 1001))
    with pytest.raises(
        PipelineError, match=r"a\.png has 2000 x 1001 pixels, too many: data\.max_megapixels is 2;"
    ):
        open_image(tmp_path / "a.png", max_megapixels=2)


@pytest.mark.parametrize("size", [(1, 101), (20_000, 10)])
def test_a_line_of_pixels_is_refused_before_an_encoder_scales_it_up(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    (tmp_path / "a.png").write_bytes(png_claiming(*size))
    with pytest.raises(PipelineError, match=r"a\.png has .* pixels: one side is more than 100 times"):
        open_image(tmp_path / "a.png", max_megapixels=50)
    with pytest.raises(PipelineError, match=r"the box .* of an image has 400 x 1 pixels: one side is more"):
        crop(Image.new("RGB", (400, 300)), (0, 0, 1, 0.003))


def test_a_side_that_no_list_of_images_can_hold_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png_claiming(65_536, 700))
    with pytest.raises(PipelineError, match=r"a\.png has 65536 x 700 pixels; 65535 are allowed a side"):
        open_image(tmp_path / "a.png", max_megapixels=50)


def test_an_image_is_described_as_it_would_be_opened(tmp_path: Path) -> None:
    Image.new("RGB", (5, 4), RED).save(tmp_path / "a.png")
    sha256 = hashlib.sha256((tmp_path / "a.png").read_bytes()).hexdigest()
    assert describe_image(tmp_path / "a.png", max_megapixels=1) == (sha256, 5, 4)
    with pytest.raises(PipelineError, match=r"none\.png does not exist"):
        describe_image(tmp_path / "none.png", max_megapixels=1)


def test_just_as_many_pixels_as_allowed(tmp_path: Path) -> None:
    Image.new("1", (1000, 1000)).save(tmp_path / "a.png")
    assert open_image(tmp_path / "a.png", max_megapixels=1).size == (1000, 1000)


@pytest.mark.parametrize("side", [10_000, 60_000])
@pytest.mark.filterwarnings("error")
def test_bombs_that_pillow_itself_refuses(tmp_path: Path, side: int) -> None:
    (tmp_path / "a.png").write_bytes(png_claiming(side, side))
    with pytest.raises(
        PipelineError,
        match=rf"a\.png has too many pixels.*{side * side}.*data\.max_megapixels is 50",
    ):
        open_image(tmp_path / "a.png", max_megapixels=50)


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
def test_boxes_that_are_none(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(PipelineError, match=r"the box \(.*\) is no part of an image; allowed"):
        crop(Image.new("RGB", (4, 4)), box)
