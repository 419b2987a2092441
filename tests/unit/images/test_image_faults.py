"""Files that are no image, damaged, too large or exchanged: refused in a sentence.

Run: .venv/bin/python -m pytest tests/unit/images/test_image_faults.py
"""

import hashlib
import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from pipeline.errors import PipelineError
from pipeline.images.images import READS_HEIC, describe_image, image_from_bytes, open_image

RED = (255, 0, 0)


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
        (b"P6 1 1 255\nabc", "is not a readable image"),
        (b"\x80\x04cos\nsystem\n(S'true'\ntR.", "is not a readable image"),
        (damaged_png(), "is truncated or damaged"),
        # What the header claims is known before anything is decoded.
        (png_claiming(10_000, 5_001), r"has 10000 x 5001 pixels, .*data\.max_megapixels is 50"),
        (png_claiming(1, 101), "has 1 x 101 pixels.* 100 times"),
        (png_claiming(20_000, 10), "has 20000 x 10 pixels.* 100 times"),
        (png_claiming(65_536, 700), "has 65536 x 700 pixels.* 65535"),
        (png_claiming(10_000, 10_000), f"{10_000**2}.*data.max_megapixels is 50"),
        (png_claiming(60_000, 60_000), f"{60_000**2}.*data.max_megapixels is 50"),
    ],
)
def test_what_is_not_a_good_image_is_named(
    tmp_path: Path, look: Callable[..., object], content: bytes | None, message: str
) -> None:
    path = tmp_path / "a.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PipelineError, match=rf"a\.jpg .*{message}"):
        look(path, max_megapixels=50)


def test_what_is_not_a_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    for name, message in (
        ("", "is a folder"),
        ("a.jpg", r"a\.jpg is not a regular file"),
        ("x" * 300, "cannot read .*/xxx"),
        ("a\0b", "cannot read .*/a"),
    ):
        with pytest.raises(PipelineError, match=message):
            open_image(tmp_path / name, max_megapixels=1)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "gif", "tiff", "webp", "avif", "jp2"])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    # A TIFF keeps its table of contents at the end: half a file is then no TIFF at all.
    with pytest.raises(PipelineError, match=rf"a\.{suffix} is (truncated or damaged|not a readable)"):
        open_image(path, max_megapixels=1)


@pytest.mark.skipif(READS_HEIC, reason="pillow-heif is installed")
@pytest.mark.parametrize("brand", [b"heic", b"mif1"])
def test_for_a_heic_image_the_package_that_reads_it_is_named(tmp_path: Path, brand: bytes) -> None:
    path = tmp_path / "a.jpg"  # a telephone's picture, renamed
    path.write_bytes(b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1heic")
    with pytest.raises(PipelineError, match=r"a\.jpg is a HEIC image.*pip install .*\[heic\]"):
        open_image(path, max_megapixels=1)


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    Image.new("F", (3, 2), 0.5).save(tmp_path / "a.tiff")
    with pytest.raises(PipelineError, match=r"a\.tiff has pixels of the kind F"):
        open_image(tmp_path / "a.tiff", max_megapixels=1)


def test_other_bytes_than_those_listed_are_never_decoded(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png_claiming(60_000, 60_000))
    with pytest.raises(PipelineError, match=r"a\.png has changed since it was listed.*`dvc repro`"):
        open_image(path, max_megapixels=1, sha256="0" * 64)
    Image.new("RGB", (5, 4), RED).save(path)
    listed = hashlib.sha256(path.read_bytes()).hexdigest()
    assert open_image(path, max_megapixels=1, sha256=listed).getpixel((0, 0)) == RED


def test_an_image_overwritten_while_it_is_open_is_seen_as_its_digest_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Overwritten in place: a second read of the open file would give the new bytes."""
    path = tmp_path / "a.bmp"
    Image.new("RGB", (7, 6), (0, 255, 0)).save(path)
    other = path.read_bytes()
    Image.new("RGB", (5, 4), RED).save(path)
    content = path.read_bytes()
    listed = hashlib.sha256(content).hexdigest()

    class OverwrittenOnceRead(io.FileIO):
        def readinto(self, buffer: Any) -> int | None:
            count = super().readinto(buffer)
            if self.tell() == len(content):
                with io.FileIO(str(path), "w") as file:
                    file.write(other)
            return count

    def opened(self: Path, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(OverwrittenOnceRead(str(self)))

    for look in (
        lambda: open_image(path, max_megapixels=1, sha256=listed).size,
        lambda: describe_image(path, max_megapixels=1),
    ):
        path.write_bytes(content)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", opened)
            assert look() in ((5, 4), (listed, 5, 4))
        assert path.read_bytes() == other


def test_a_text_that_unpacks_to_100_megabytes_is_refused(tmp_path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "0" * 100_000_000, zip=True)
    Image.new("RGB", (5, 4)).save(tmp_path / "a.png", pnginfo=text)
    assert (tmp_path / "a.png").stat().st_size < 200_000
    with pytest.raises(PipelineError, match=r"a\.png is truncated or damaged"):
        open_image(tmp_path / "a.png", max_megapixels=1)


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "a.png").open("wb") as file:
        file.write(png_claiming(5, 4))
        file.truncate(2**40)
    with pytest.raises(PipelineError, match=r"a\.png .* 512 MiB"):
        open_image(tmp_path / "a.png", max_megapixels=1)


def test_as_many_pixels_as_allowed_are_read(tmp_path: Path) -> None:
    Image.new("1", (1000, 1000)).save(tmp_path / "a.png")
    assert open_image(tmp_path / "a.png", max_megapixels=1).size == (1000, 1000)


def test_the_content_of_a_file_is_an_image_too() -> None:
    with pytest.raises(PipelineError, match=r"this file is empty \(0 bytes\)"):
        image_from_bytes("this file", b"", 1, "--limit")
    with pytest.raises(PipelineError, match=r"this file has 2000 x 1000 pixels, .*--limit is 1"):
        image_from_bytes("this file", png_claiming(2000, 1000), 1, "--limit")
