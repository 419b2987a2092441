"""Kept features: a block gives what was written into it for an image, or is dropped and encoded again.

Run: .venv/bin/python -m pytest tests/unit/encoding/test_blocks.py
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from pipeline.captions import ImageRecord
from pipeline.encoding import block_files
from pipeline.encoding.block_files import DAMAGED, Block, is_block, to_float16, write_block
from pipeline.encoding.blocks import FeatureBlocks
from pipeline.errors import PipelineError
from pipeline.features.store import Features


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


def test_a_block_is_never_written_over_one_of_other_images(tmp_path: Path) -> None:
    """Both begin with the same image."""
    one, two = keep(tmp_path, [1, 2]), keep(tmp_path, [1, 3])
    assert one != two
    assert read(tmp_path, [1, 2, 3]) == [1, 2, 3]


def test_a_block_whose_list_of_images_is_damaged_is_dropped_before_it_is_known(tmp_path: Path) -> None:
    """The last digit of image 1 becomes that of image 0, which is still to be encoded."""
    block = keep(tmp_path, [1, 2])
    content = block.read_bytes()
    listed = images_of([1])[0].sha256.encode()
    assert content.count(listed) == 1
    flip(block, content.index(listed) + 63)
    assert missing(tmp_path, [0, 1, 2]) == 3
    assert not block.exists()


@pytest.mark.parametrize("bit", [0, 6])
def test_a_bit_flipped_anywhere_costs_the_block_and_gives_nothing_else(tmp_path: Path, bit: int) -> None:
    block = keep(tmp_path, [1, 2])
    content = block.read_bytes()
    for place in range(len(content)):
        flip(block, place, bit)
        if missing(tmp_path, [1, 2]) == 0:
            with pytest.raises(PipelineError, match=r"was damaged \(.*\) and has been removed; run the"):
                read(tmp_path, [1, 2])
        assert not block.exists()
        block.write_bytes(content)


def test_a_block_in_the_place_of_another_is_dropped(tmp_path: Path) -> None:
    one, two = keep(tmp_path, [1, 2]), keep(tmp_path, [3, 4])
    shutil.copyfile(one, two)
    assert not is_block(two)
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
    rows_read = 0

    class OneRowAtATime:
        """A file of which nothing but single rows can be had."""

        def __init__(self, path: Path, framework: str) -> None:
            self._file = safe_open(path, framework=framework)
            self.metadata = self._file.metadata

        def get_slice(self, name: str) -> Any:
            self._rows = self._file.get_slice(name)
            self.get_dtype, self.get_shape = self._rows.get_dtype, self._rows.get_shape
            return self

        def __getitem__(self, row: int) -> Features:
            nonlocal rows_read
            rows_read += 1
            values: Features = self._rows[row]
            return values

    monkeypatch.setattr(block_files, "safe_open", OneRowAtATime)
    assert read(tmp_path, range(count)) == list(range(count))
    assert rows_read == count


@pytest.mark.parametrize("value", [7e4, -1e6, np.nan, np.inf])
def test_values_that_do_not_fit_name_their_image(value: float) -> None:
    wide = np.zeros((3, 4, 5), np.float32)
    wide[1, 2, 3] = value
    with pytest.raises(PipelineError, match=r"features of b\.png are not finite in float16"):
        to_float16(wide, ["a.png", "b.png", "c.png"])


def test_values_that_fit_are_rounded_to_the_nearest() -> None:
    values = np.array([[[65504.0, -65504.0, 1 / 3, 1e-9]]], np.float32)
    small = to_float16(values, ["a.png"])
    assert small.dtype == np.float16
    assert small.tolist() == [[[65504.0, -65504.0, 0.333251953125, 0.0]]]
