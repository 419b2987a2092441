"""Blocks of features: a block gives what was written into it for an image, or is dropped and encoded again.

Run: .venv/bin/python -m pytest tests/unit/encoding/test_blocks.py
"""

import errno
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from pipeline.captions import ImageRecord
from pipeline.encoding.block_files import DAMAGED, Block, write_block
from pipeline.encoding.blocks import FeatureBlocks
from pipeline.errors import PipelineError
from tests.refusals import fail_reads


def sha256s_of(numbers: Sequence[int]) -> list[str]:
    return [f"{n:064x}" for n in numbers]


def keep(folder: Path, numbers: Sequence[int]) -> Path:
    """A block of the images with these numbers, all of whose features are the number."""
    images = [ImageRecord(f"{n:04}", "a.png", f"{n:064x}", 1, 1) for n in numbers]
    values = np.array(numbers, np.float32)[:, None, None]
    return write_block(folder, images, np.broadcast_to(values, (len(numbers), 2, 3)))


def read(folder: Path, numbers: Sequence[int]) -> list[float]:
    """The one value of each image's features."""
    with FeatureBlocks(folder) as blocks:
        rows = list(blocks.read(sha256s_of(numbers)))
    assert all(row.shape == (2, 3) and (row == row[0, 0]).all() for row in rows)
    return [float(row[0, 0]) for row in rows]


def missing(folder: Path, numbers: Sequence[int]) -> int:
    with FeatureBlocks(folder) as blocks:
        return blocks.note_missing(sha256s_of(numbers))


def test_features_come_back_in_any_order(tmp_path: Path) -> None:
    keep(tmp_path, [3, 4, 7])
    assert keep(tmp_path, [0, 9]) != keep(tmp_path, [0, 8])
    assert read(tmp_path, [9, 3, 0, 7, 4, 3, 8]) == [9, 3, 0, 7, 4, 3, 8]
    with pytest.raises(PipelineError, match=sha256s_of([5])[0][:12]):
        read(tmp_path, [3, 5])


def test_an_image_without_features_is_claimed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    keep(tmp_path, [1, 2])
    with FeatureBlocks(tmp_path) as blocks:
        assert blocks.note_missing(sha256s_of([0, 1, 2, 0, 3])) == 2
        assert [blocks.claim(sha256) for sha256 in sha256s_of([1, 3, 3])] == [False, True, False]
        assert list((tmp_path / "temporary").iterdir()) == [], "a killed process leaves nothing behind either"


@pytest.mark.parametrize("bit", [0, 6])
def test_a_flipped_bit_costs_the_block_and_gives_no_other_features(tmp_path: Path, bit: int) -> None:
    """With bit 0 the last digit of image 1 in the block's list becomes that of image 0, which is missing."""
    block = keep(tmp_path, [1, 2])
    content = block.read_bytes()
    for place in range(len(content)):
        block.write_bytes(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :])
        if missing(tmp_path, [0, 1, 2]) == 1:
            with pytest.raises(PipelineError, match=r"was damaged \(.*\) and has been removed"):
                read(tmp_path, [1, 2])
        assert not block.exists()
    block.write_bytes(content)
    assert read(tmp_path, [1, 2]) == [1, 2]


@pytest.mark.parametrize("content", [b"", b"hello", (2).to_bytes(8, "little") + b"{}", [3, 4], [1]])
def test_a_file_that_is_not_its_block_is_dropped(tmp_path: Path, content: bytes | list[int]) -> None:
    """Another block, of other images or of another encoder, is not a block of these images."""
    block = keep(tmp_path / "encoder", [1])
    if isinstance(content, bytes):
        block.write_bytes(content)
    else:
        keep(tmp_path / "other", content).replace(block)
    with pytest.raises(DAMAGED):
        Block(block)
    assert missing(tmp_path / "encoder", [1]) == 1
    assert not block.exists()


@pytest.mark.parametrize("others", [[7], [2, 1]])
def test_a_block_exchanged_after_it_was_indexed_is_dropped(tmp_path: Path, others: list[int]) -> None:
    block = keep(tmp_path, [1, 2])
    with FeatureBlocks(tmp_path) as blocks:
        shutil.move(keep(tmp_path, others), block)
        with pytest.raises(PipelineError, match=r"was damaged .* and has been removed"):
            list(blocks.read(sha256s_of([1, 2])))
    assert not block.exists()


def test_a_row_is_read_for_its_image_alone(tmp_path: Path) -> None:
    block = Block(keep(tmp_path, [1, 2]))
    first, second = sha256s_of([1, 2])
    assert (block.read(1, second) == 2).all()
    for row, sha256 in ((0, second), (2, second), (-1, second), (1, first)):
        with pytest.raises(ValueError, match=f"row {row} "):
            block.read(row, sha256)


@pytest.mark.parametrize("row_alone", [False, True])
def test_unreadable_blocks_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row_alone: bool) -> None:
    block = keep(tmp_path, [1, 2])
    with monkeypatch.context() as patch:
        if row_alone:
            patch.setattr(os, "pread", Mock(side_effect=OSError(errno.EIO, "Input/output error")))
        else:
            fail_reads(patch, tmp_path)
        with pytest.raises(PipelineError, match=f"cannot read {block}: Input/output error"):
            read(tmp_path, [1, 2])
    assert read(tmp_path, [1, 2]) == [1, 2]


def test_a_full_temporary_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class SmallDisk(sqlite3.Connection):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.execute("PRAGMA max_page_count = 20")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sqlite3, "connect", SmallDisk)
    with pytest.raises(PipelineError, match=rf"{tmp_path}/vlm-blocks-\S+: No space left .*MB free there"):
        missing(tmp_path, range(2000))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(PipelineError, match=f"{tmp_path}/none/vlm-blocks: No such file or dir"):
        FeatureBlocks(tmp_path)


@pytest.mark.parametrize("value", [7e4, -1e6, np.nan, np.inf])
def test_features_that_do_not_fit_float16_name_their_image(tmp_path: Path, value: float) -> None:
    images = [ImageRecord(f"{n}.png", "a.png", f"{n:064x}", 1, 1) for n in range(3)]
    wide = np.zeros((3, 1, 2), np.float32)
    wide[1, 0] = 1 / 3, value
    with pytest.raises(PipelineError, match=r"1\.png"):
        write_block(tmp_path, images, wide)
    wide[1, 0, 1] = 65504.0
    block = Block(write_block(tmp_path, images, wide))
    assert block.read(1, images[1].sha256).tolist() == [[0.333251953125, 65504.0]]
