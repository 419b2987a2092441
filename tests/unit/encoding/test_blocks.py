"""Kept features: a block gives what was written into it for an image, or is dropped and encoded again.

Run: .venv/bin/python -m pytest tests/unit/encoding/test_blocks.py
"""

import errno
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pipeline.captions import ImageRecord
from pipeline.encoding.block_files import DAMAGED, Block, to_float16, write_block
from pipeline.encoding.blocks import FeatureBlocks
from pipeline.errors import PipelineError
from tests.refusals import fail_reads


def images_of(numbers: Sequence[int]) -> list[ImageRecord]:
    return [ImageRecord(f"{n:04}", "a.png", f"{n:064x}", 1, 1) for n in numbers]


def keep(folder: Path, numbers: Sequence[int]) -> Path:
    """A block of the images with these numbers, all of whose features are the number."""
    values = np.array(numbers, np.float32)[:, None, None]
    return write_block(folder, images_of(numbers), np.broadcast_to(values, (len(numbers), 2, 3)))


def read(folder: Path, numbers: Sequence[int]) -> list[float]:
    """What the blocks of a folder hold for images: the one value of each."""
    with FeatureBlocks(folder) as blocks:
        rows = list(blocks.read(image.sha256 for image in images_of(numbers)))
    assert all(row.shape == (2, 3) and (row == row[0, 0]).all() for row in rows)
    return [float(row[0, 0]) for row in rows]


def missing(folder: Path, numbers: Sequence[int]) -> int:
    with FeatureBlocks(folder) as blocks:
        return blocks.note_missing(image.sha256 for image in images_of(numbers))


def flip(path: Path, place: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


def test_features_come_back_in_any_order(tmp_path: Path) -> None:
    keep(tmp_path, [3, 4, 7])
    keep(tmp_path, [0, 9])
    assert read(tmp_path, [9, 3, 0, 7, 4, 3]) == [9, 3, 0, 7, 4, 3]


def test_a_block_is_never_written_over_one_that_begins_with_the_same_image(tmp_path: Path) -> None:
    assert keep(tmp_path, [1, 2]) != keep(tmp_path, [1, 3])
    assert read(tmp_path, [1, 2, 3]) == [1, 2, 3]


@pytest.mark.parametrize("bit", [0, 6])
def test_a_bit_flipped_anywhere_costs_the_block_and_gives_nothing_else(tmp_path: Path, bit: int) -> None:
    """With bit 0 the last digit of image 1 in the block's list becomes that of image 0, which is missing."""
    block = keep(tmp_path, [1, 2])
    content = block.read_bytes()
    for place in range(len(content)):
        flip(block, place, bit)
        if missing(tmp_path, [0, 1, 2]) == 1:
            with pytest.raises(PipelineError, match=r"was damaged \(.*\) and has been removed; run the"):
                read(tmp_path, [1, 2])
        assert not block.exists()
        block.write_bytes(content)


def test_a_block_in_the_place_of_another_is_dropped(tmp_path: Path) -> None:
    one, two = keep(tmp_path, [1, 2]), keep(tmp_path, [3, 4])
    shutil.copyfile(one, two)
    with pytest.raises(DAMAGED):
        Block(two)
    assert missing(tmp_path, [1, 2, 3, 4]) == 2
    assert not two.exists()


@pytest.mark.parametrize("others", [[7], [7, 8], [2, 1]])
def test_a_block_exchanged_after_it_was_found_is_dropped(tmp_path: Path, others: list[int]) -> None:
    block = keep(tmp_path, [1, 2])
    with FeatureBlocks(tmp_path) as blocks:
        shutil.move(keep(tmp_path, others), block)
        with pytest.raises(PipelineError, match=r"was damaged .* and has been removed; run the"):
            list(blocks.read(image.sha256 for image in images_of([1, 2])))
    assert not block.exists()


def test_a_row_is_read_for_its_own_image_alone(tmp_path: Path) -> None:
    block = Block(keep(tmp_path, [1, 2]))
    first, second = (image.sha256 for image in images_of([1, 2]))
    assert (block.read(1, second) == 2).all()
    for row, sha256 in ((0, second), (2, second), (-1, second), (1, first)):
        with pytest.raises(ValueError, match=f"row {row} is not that of the image"):
            block.read(row, sha256)


@pytest.mark.parametrize("content", [b"", b"hello", (2).to_bytes(8, "little") + b"{}"])
def test_what_is_no_block_is_dropped(tmp_path: Path, content: bytes) -> None:
    block = keep(tmp_path, [1])
    block.write_bytes(content)
    with pytest.raises(DAMAGED):
        Block(block)
    assert missing(tmp_path, [1]) == 1
    assert list(tmp_path.iterdir()) == []


def test_of_a_dataset_that_grew_in_many_steps_each_row_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step's images lie between those of all others: no two neighbours are of one block."""
    steps, count = 40, 200
    for step in range(steps):
        keep(tmp_path, range(step, count, steps))
    sizes_read = []

    def counting(file: int, size: int, offset: int) -> bytes:
        sizes_read.append(size)
        return pread(file, size, offset)

    pread = os.pread
    monkeypatch.setattr(os, "pread", counting)
    assert read(tmp_path, range(count)) == list(range(count))
    assert sizes_read == [2 * 2 * 3] * count


@pytest.mark.parametrize("row_alone", [False, True])
def test_a_block_on_a_disk_that_fails_is_not_deleted_as_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row_alone: bool
) -> None:
    def fail(*_: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    block = keep(tmp_path, [1, 2])
    with monkeypatch.context() as patch:
        if row_alone:
            patch.setattr(os, "pread", fail)
        else:
            fail_reads(patch, tmp_path)
        with pytest.raises(PipelineError, match=rf"cannot read {block}: Input/output error; it is left"):
            read(tmp_path, [1, 2])
    assert read(tmp_path, [1, 2]) == [1, 2]


def test_values_are_rounded_to_the_nearest_and_name_their_image_where_they_do_not_fit() -> None:
    values = np.array([[[65504.0, -65504.0, 1 / 3, 1e-9]]], np.float32)
    small = to_float16(values, ["a.png"])
    assert small.dtype == np.float16
    assert small.tolist() == [[[65504.0, -65504.0, 0.333251953125, 0.0]]]
    for value in (7e4, -1e6, np.nan, np.inf):
        wide = np.zeros((3, 4, 5), np.float32)
        wide[1, 2, 3] = value
        with pytest.raises(PipelineError, match=r"features of b\.png are not finite in float16"):
            to_float16(wide, ["a.png", "b.png", "c.png"])
