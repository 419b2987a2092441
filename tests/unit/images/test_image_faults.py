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
from PIL import Image

from pipeline.errors import PipelineError
from pipeline.images.images import crop, describe_image, open_image

RED = (255, 0, 0)


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


def test_an_image_overwritten_while_it_is_open_is_seen_as_its_digest_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Overwritten in place, not exchanged: who reads the open file a second time gets the new bytes."""
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


@pytest.mark.parametrize("look", [open_image, describe_image])
def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path, look: Callable[..., object]) -> None:
    with (tmp_path / "a.png").open("wb") as file:
        file.write(png_claiming(5, 4))
        file.truncate(2**40)
    with pytest.raises(PipelineError, match=r"a\.png has more than 512 MiB, which no image file here may"):
        look(tmp_path / "a.png", max_megapixels=1)


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
