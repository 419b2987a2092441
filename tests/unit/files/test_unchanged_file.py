"""A file that was read once, and other bytes in it later.

Run: .venv/bin/python -m pytest tests/unit/files/test_unchanged_file.py
"""

import hashlib
import os
from pathlib import Path

import pytest

from pipeline.files.unchanged_file import UnchangedFile
from tests.refusals import refusal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "epoch_001.safetensors"
    path.write_bytes(b"weights")
    return path


def test_other_bytes_and_a_missing_file_are_noticed(path: Path) -> None:
    file, content = UnchangedFile.read(path)
    assert (content, file.sha256) == (b"weights", hashlib.sha256(b"weights").hexdigest())
    path.unlink()
    path.write_bytes(content)
    file.require_unchanged()
    path.write_bytes(b"WEIGHTS")
    refusal(file.require_unchanged, match=r"epoch_001\.safetensors was exchanged while it was in use")
    path.unlink()
    refusal(file.require_unchanged, match=r"cannot read .*epoch_001\.safetensors again: No such file")


def test_a_file_that_cannot_be_read_is_named(path: Path, tmp_path: Path) -> None:
    refusal(UnchangedFile.read, tmp_path / "none.safetensors", match=r"none\.safetensors does not exist")
    refusal(UnchangedFile.read, tmp_path, match=r"cannot read .*: Is a directory")
    os.truncate(path, 9 * 2**30)  # a hole: it takes no room
    refusal(UnchangedFile.read, path, match=r"has 9663676416 bytes; at most 8589934592")
