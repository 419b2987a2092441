"""Blocks of features: a block gives what was written into it for an image, or is dropped and encoded again.

Run: .venv/bin/python -m pytest tests/unit/encoding/test_blocks.py
"""

import errno
import os
import shutil
import sqlite3
import tempfile
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from pipeline.captions import ImageList, ImageRecord, write_images
from pipeline.encoding.block_files import DAMAGED, Block, write_block
from pipeline.encoding.blocks import FeatureBlocks
from pipeline.errors import PipelineError
from pipeline.features.store import write_store
from tests.refusals import fail_reads, flipped, refusal


def sha256s_of(numbers: Sequence[int]) -> list[str]:
    return [f"{n:064x}" for n in numbers]


def records(numbers: Sequence[int]) -> list[ImageRecord]:
    return [ImageRecord(f"{n:04}", "a.png", f"{n:064x}", 1, 1) for n in numbers]


def keep(folder: Path, numbers: Sequence[int]) -> Path:
    """A block of the images with these numbers, all of whose features are the number."""
    images = records(numbers)
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


def test_features_come_back_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(tmp_path, [3, 4, 7])
    assert keep(tmp_path, [0, 9]) != keep(tmp_path, [0, 8])
    assert read(tmp_path, [9, 3, 0, 7, 4, 3, 8]) == [9, 3, 0, 7, 4, 3, 8]
    refusal(read, tmp_path, [3, 5], match=sha256s_of([5])[0][:12])
    (temporary := tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with FeatureBlocks(tmp_path) as blocks:
        assert blocks.note_missing(sha256s_of([3, 5])) == 1
        assert list(temporary.iterdir()) == [], "a killed process leaves nothing behind either"


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    """Python's own, of finding, listing and joining; benchmarks/rehearsal.py measures processes."""
    peaks = []
    for count in (50, 1000, 8000):  # the first time, libraries fill their caches
        folder, listing = tmp_path / str(count), tmp_path / f"{count}.jsonl"
        for start in range(0, count, 50):
            keep(folder, range(start, start + 50))
        write_images(listing, records(range(count)))
        tracemalloc.start()
        listed = ImageList(listing)
        with FeatureBlocks(folder) as blocks:
            assert blocks.note_missing(image.sha256 for image in listed) == 0
            features = blocks.read(image.sha256 for image in listed)
            write_store(tmp_path / "features.h5", listed, {"num_tokens": 2, "width": 3}, features)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # The digests alone, in a list, would take 0.8 MB more.
    assert peaks[2] - peaks[1] < 300_000, peaks


@pytest.mark.parametrize("bit", [0, 6])
def test_a_flipped_bit_costs_the_block_and_gives_no_other_features(tmp_path: Path, bit: int) -> None:
    """With bit 0 the last digit of image 1 in the block's list becomes that of image 0, which is missing."""
    block = keep(tmp_path, [1, 2])
    content = block.read_bytes()
    for place in range(len(content)):
        block.write_bytes(flipped(content, place, bit))
        if missing(tmp_path, [0, 1, 2]) == 1:
            refusal(read, tmp_path, [1, 2], match=r"was damaged \(.*\) and has been removed")
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
        refusal(list, blocks.read(sha256s_of([1, 2])), match=r"was damaged .* and has been removed")
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
        refusal(read, tmp_path, [1, 2], match=f"cannot read {block}: Input/output error")
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
    refusal(FeatureBlocks, tmp_path, match=f"{tmp_path}/none/vlm-blocks: No such file or dir")


@pytest.mark.parametrize("value", [7e4, -1e6, np.nan, np.inf])
def test_features_that_do_not_fit_float16_name_their_image(tmp_path: Path, value: float) -> None:
    images = records(range(3))
    wide = np.zeros((3, 1, 2), np.float32)
    wide[1, 0] = 1 / 3, value
    refusal(write_block, tmp_path, images, wide, match="of 0001 are not finite")
    wide[1, 0, 1] = 65504.0
    block = Block(write_block(tmp_path, images, wide))
    assert block.read(1, images[1].sha256).tolist() == [[0.333251953125, 65504.0]]
