"""Every image becomes upright RGB, whatever its format, mode and metadata; crops lie inside and tile it;
files that are no image, damaged, too large or exchanged are refused in a sentence.

Run: .venv/bin/python -m pytest tests/unit/images/test_images.py
"""

import hashlib
import io
import math
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from pipeline.errors import PipelineError
from pipeline.images.images import (
    READS_HEIC,
    crop,
    describe_image,
    image_from_array,
    image_from_bytes,
    image_from_pil,
    open_image,
)
from tests.pictures import noise
from tests.refusals import call_before, refusal

RED, WHITE, GRAY = (255, 0, 0), (255, 255, 255), (0x64, 0x64, 0x64)
CLOSE = 15  # what lossy formats may change
# EXIF orientation, and where the top left of the stored image (48 x 32 pixels) is then.
RED_CORNERS = [(1, 6, 6), (2, 42, 6), (3, 42, 26), (4, 6, 26), (5, 6, 6), (6, 26, 6), (7, 26, 42), (8, 6, 42)]

# Mode, color, file, options of saving, expected color.
PIXELS: list[tuple[str, Any, str, dict[str, Any], tuple[int, int, int]]] = [
    *(
        ("RGB", RED, f"a.{suffix}", {}, RED)
        for suffix in ("jpg", "png", "webp", "bmp", "gif", "tiff", "avif", "jp2")
    ),
    ("1", 1, "a.png", {}, WHITE),
    ("L", 100, "a.png", {}, GRAY),
    ("LA", (0, 0), "a.png", {}, WHITE),
    ("RGBA", (0, 0, 0, 51), "a.png", {}, (204, 204, 204)),
    ("I;16", 0x6432, "a.png", {}, GRAY),
    ("I;16B", 0x6432, "a.tiff", {}, GRAY),
    ("I", 0x6432, "a.tiff", {}, GRAY),
    ("I", 1 << 20, "a.tiff", {}, WHITE),
    ("I", -9, "a.tiff", {}, (0, 0, 0)),
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


@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "avif"])
@pytest.mark.parametrize(("orientation", "x", "y"), RED_CORNERS)
def test_exif_orientation_is_applied(tmp_path: Path, suffix: str, orientation: int, x: int, y: int) -> None:
    size = (48, 32) if orientation < 5 else (32, 48)
    image = Image.new("RGB", (48, 32), WHITE)
    image.paste(RED, (0, 0, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    image.save(path, exif=exif)
    upright = open_image(path, max_megapixels=1)
    assert describe_image(path, max_megapixels=1) == (hashlib.sha256(path.read_bytes()).hexdigest(), *size)
    assert upright.size == size
    assert np.abs(np.asarray(upright)[y, x].astype(int) - RED).max() < 60
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
    refusal(image_from_array, array, match=rf"shape \({array.shape[0]}, 3.* type {array.dtype}")


# --- crops ----------------------------------------------------------------------------------------

spans = st.lists(st.floats(0, 1), min_size=2, max_size=2, unique=True).map(sorted)


@given(st.integers(1, 40), st.integers(1, 40), spans, spans)
def test_a_crop_lies_inside(width: int, height: int, across: list[float], down: list[float]) -> None:
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


@pytest.mark.parametrize("box", [(0.5, 0, 0.5, 1), (-0.1, 0, 1, 1), (0, 0, 1, 1.1), (0, math.nan, 1, 1)])
def test_an_impossible_box_and_a_line_of_pixels_are_refused(box: tuple[float, float, float, float]) -> None:
    refusal(crop, Image.new("RGB", (4, 4)), box, match=r"the box \(.*\) is not a part of an image")
    refusal(crop, Image.new("RGB", (400, 300)), (0, 0, 1, 0.003), match=r"the box .* 400 x 1 pixels")


# --- files that are no image, damaged, too large or exchanged -------------------------------------


def png_claiming(width: int, height: int) -> bytes:
    """A PNG header with nothing behind it: enough to know the size, too little to decode."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    header = struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + header + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", 0)


def damaged_png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), RED).save(file, "PNG")
    content = bytearray(file.getvalue())
    start = content.index(b"IDAT") + 6
    content[start : start + 8] = b"\xff" * 8
    return bytes(content)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("look", [open_image, describe_image])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        (b"", r"is empty \(0 bytes\)"),
        (b"<html>404</html>", "is not a readable image.*: JPEG, PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "is not a readable image"),
        (damaged_png(), "is truncated or damaged"),
        # What the header claims is known before anything is decoded.
        (png_claiming(10_000, 5_001), r"has 10000 x 5001 pixels, .*data\.max_megapixels is 50"),
        (png_claiming(20_000, 10), "has 20000 x 10 pixels.* 100 times"),
        (png_claiming(65_536, 700), "has 65536 x 700 pixels.* 65535"),
        (png_claiming(60_000, 60_000), f"{60_000**2}"),
    ],
)
def test_what_is_not_a_good_image_is_named(
    tmp_path: Path, look: Callable[..., object], content: bytes | None, message: str
) -> None:
    path = tmp_path / "a.jpg"
    if content is not None:
        path.write_bytes(content)
    refusal(look, path, max_megapixels=50, match=rf"a\.jpg .*{message}")


def test_what_is_not_a_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    names = {"": "is a folder", "a.jpg": r"a\.jpg is not a regular file", "x" * 300: "cannot read .*/xxx"}
    for name, message in names.items():
        refusal(open_image, tmp_path / name, max_megapixels=1, match=message)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "avif"])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    noise(64, 64).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    # A TIFF keeps its table of contents at the end: half a file is then no TIFF at all.
    with pytest.raises(PipelineError, match=rf"a\.{suffix} is (truncated or damaged|not a readable)"):
        open_image(path, max_megapixels=1)


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    Image.new("F", (3, 2), 0.5).save(tmp_path / "a.tiff")
    refusal(open_image, tmp_path / "a.tiff", max_megapixels=1, match=r"a\.tiff has pixels of the kind F")


def test_other_bytes_than_those_listed_are_never_decoded(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png_claiming(60_000, 60_000))
    with pytest.raises(PipelineError, match=r"a\.png has changed since it was listed.*`dvc repro`"):
        open_image(tmp_path / "a.png", max_megapixels=1, sha256="0" * 64)


def test_a_file_overwritten_while_read_is_as_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.bmp"
    Image.new("RGB", (7, 6), (0, 255, 0)).save(path)
    other = path.read_bytes()
    Image.new("RGB", (5, 4), RED).save(path)
    content = path.read_bytes()
    listed = hashlib.sha256(content).hexdigest()
    call_before(monkeypatch, Image, "open", lambda *_, **__: path.write_bytes(other))
    assert open_image(path, max_megapixels=1, sha256=listed).size == (5, 4)
    path.write_bytes(content)
    assert describe_image(path, max_megapixels=1) == (listed, 5, 4)


def test_a_text_that_unpacks_to_100_megabytes_is_refused(tmp_path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "0" * 100_000_000, zip=True)
    Image.new("RGB", (5, 4)).save(tmp_path / "a.png", pnginfo=text)
    assert (tmp_path / "a.png").stat().st_size < 200_000
    refusal(open_image, tmp_path / "a.png", max_megapixels=1, match=r"a\.png is truncated or damaged")


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "a.png").open("wb") as file:
        file.write(png_claiming(5, 4))
        file.truncate(2**40)
    refusal(open_image, tmp_path / "a.png", max_megapixels=1, match=r"a\.png .* 512 MiB")


def test_bytes_without_a_file_are_refused_by_the_name_that_is_given() -> None:
    for content, fault in ((b"", "is empty"), (png_claiming(2000, 1000), "has 2000 x 1000.*--limit is 1")):
        refusal(image_from_bytes, "this file", content, 1, "--limit", match=f"this file {fault}")


@pytest.mark.skipif(READS_HEIC, reason="pillow-heif is installed")
def test_for_a_heic_image_the_package_that_reads_it_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"  # a telephone's picture, renamed
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with pytest.raises(PipelineError, match=r"a\.jpg is not a readable image.*pip install .*\[heic\]"):
        open_image(path, max_megapixels=1)
