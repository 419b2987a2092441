"""A file that was read once, and other bytes in it later.

Run: .venv/bin/python -m pytest tests/unit/files/test_unchanged_file.py
"""

import hashlib
import os
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.files.unchanged_file import UnchangedFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "epoch_001.safetensors"
    path.write_bytes(b"weights")
    return path


def test_the_digest_is_that_of_the_bytes_that_were_read(path: Path) -> None:
    file, content = UnchangedFile.read(path)
    assert (content, file.sha256) == (b"weights", hashlib.sha256(b"weights").hexdigest())
    file.require_unchanged()
    # The same bytes, written again.
    path.unlink()
    path.write_bytes(content)
    os.utime(path, (0, 0))
    file.require_unchanged()


def test_other_bytes_of_the_same_length_and_time_are_noticed(path: Path) -> None:
    file, _ = UnchangedFile.read(path)
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.with_name("other").write_bytes(b"WEIGHTS")
    os.utime(path.with_name("other"), ns=times)
    path.with_name("other").replace(path)
    with pytest.raises(PipelineError, match=r"epoch_001\.safetensors was exchanged while it was in use"):
        file.require_unchanged()
    path.unlink()
    with pytest.raises(PipelineError, match=r"cannot read .*epoch_001\.safetensors again: No such file"):
        file.require_unchanged()


def test_a_file_that_cannot_be_read_is_named(path: Path, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"none\.safetensors does not exist"):
        UnchangedFile.read(tmp_path / "none.safetensors")
    with pytest.raises(PipelineError, match=r"cannot read .*: Is a directory"):
        UnchangedFile.read(tmp_path)
    os.truncate(path, 9 * 2**30)  # a hole: it takes no room
    with pytest.raises(PipelineError, match=r"has 9663676416 bytes; at most 8589934592"):
        UnchangedFile.read(path)
