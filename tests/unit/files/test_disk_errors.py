"""What the system refuses becomes a sentence: the file, the reason and, on a full disk, the free space."""

import errno
import os
from pathlib import Path

import pytest
from safetensors import SafetensorError

from pipeline.errors import PipelineError
from pipeline.files.disk_errors import cannot_write, explain_write_errors, system_error

HDF5_SAYS = "Can't write data (file write failed: time = Mon, filename = '/x', errno = 28, buf = 0x55d)"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_no_room_is_told_with_the_free_space(tmp_path: Path, number: int) -> None:
    path = tmp_path / "not" / "yet" / "there"
    said = str(cannot_write(path, OSError(number, "full")))
    assert said.startswith(f"cannot write {path}: {os.strerror(number)} (")
    assert "MB free there); make room and run the command again" in said


def test_other_refusals_name_the_file_and_the_reason(tmp_path: Path) -> None:
    said = str(cannot_write(tmp_path / "x", PermissionError(errno.EACCES, "no")))
    assert said == f"cannot write {tmp_path / 'x'}: Permission denied."


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "full"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError(HDF5_SAYS),
    ],
)
def test_the_systems_number_is_found_in_the_words_of_libraries(tmp_path: Path, error: Exception) -> None:
    found = system_error(error)
    assert found is not None
    assert found.errno == errno.ENOSPC
    with pytest.raises(PipelineError, match="No space left on device"), explain_write_errors(tmp_path / "x"):
        raise error


def test_what_has_nothing_to_do_with_the_system_passes(tmp_path: Path) -> None:
    assert system_error(ValueError("no")) is None
    for error in (ValueError("no"), PipelineError("a sentence already")):
        with pytest.raises(type(error), match=str(error)), explain_write_errors(tmp_path / "x"):
            raise error
