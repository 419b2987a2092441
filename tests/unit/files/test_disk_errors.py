"""Errors of the system become a sentence: the file, the reason and, on a full disk, the free space.

Run: .venv/bin/python -m pytest tests/unit/files/test_disk_errors.py
"""

import errno
import os
from pathlib import Path

import pytest
from safetensors import SafetensorError

from pipeline.errors import PipelineError
from pipeline.files.disk_errors import explain_write_errors

HDF5 = "Can't write data (file write failed: time = Mon, filename = '/x', errno = 28, buf = 0x55d)"
RUST = "Error while serializing: I/O error: No space left on device (os error 28)"


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (OSError(errno.EDQUOT, "full"), errno.EDQUOT),
        (SafetensorError(RUST), errno.ENOSPC),
        (RuntimeError(HDF5), errno.ENOSPC),
        (PermissionError(errno.EACCES, "no"), errno.EACCES),
    ],
)
def test_a_refused_write_is_named(tmp_path: Path, error: Exception, number: int) -> None:
    path = tmp_path / "not" / "yet" / "there"
    with pytest.raises(PipelineError) as caught, explain_write_errors(path):
        raise error
    assert str(caught.value).startswith(f"cannot write {path}: {os.strerror(number)}")
    assert ("MB free there" in str(caught.value)) == (number != errno.EACCES)


@pytest.mark.parametrize("error", [ValueError("no"), PipelineError("a sentence already")])
def test_other_errors_pass(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)), explain_write_errors(tmp_path / "x"):
        raise error
