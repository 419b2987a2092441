"""Files and folders are replaced whole; an unfinished one never has the final name.

Run: .venv/bin/python -m pytest tests/unit/files/test_atomic.py
"""

import errno
import os
from pathlib import Path
from unittest.mock import Mock

import pytest

from pipeline.errors import PipelineError
from pipeline.files.atomic import replace_folder, sweep
from pipeline.files.json_files import write_atomic

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An old folder with one file."""
    old = tmp_path / "results"
    old.mkdir()
    (old / "old.txt").write_text("old")
    return old


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def replace(folder: Path, error: BaseException | None = None) -> None:
    with replace_folder(folder) as fresh:
        (fresh / "new.txt").write_text("new")
        assert not folder.exists() or names(folder) == ["old.txt"]
        if error is not None:
            raise error


def test_a_folder_is_replaced_as_a_whole(folder: Path) -> None:
    replace(folder)
    assert names(folder) == ["new.txt"]
    assert names(folder.parent) == ["results"]
    replace(folder / "a" / "b")
    assert names(folder / "a" / "b") == ["new.txt"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyboardInterrupt(), "^$"),
        (PipelineError("a sentence"), "^a sentence$"),
        (FULL, r"cannot write .*results: No space left"),
    ],
)
def test_a_folder_that_fails_leaves_the_old_one(folder: Path, error: BaseException, message: str) -> None:
    with pytest.raises((KeyboardInterrupt, PipelineError), match=message):
        replace(folder, error)
    assert names(folder) == ["old.txt"]
    assert names(folder.parent) == ["results"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.EIO, "no")])
def test_an_interruption_between_the_two_renames_leaves_the_old_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    rename = Path.rename

    def fail_once_the_old_is_away(path: Path, target: Path) -> Path:
        if not folder.exists() and not path.name.endswith(".old"):
            raise error
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail_once_the_old_is_away)
    with pytest.raises((KeyboardInterrupt, PipelineError)):
        replace(folder)
    assert names(folder) == ["old.txt"]
    assert names(folder.parent) == ["results"]


def test_leftovers_of_a_killed_run_are_removed(tmp_path: Path, folder: Path) -> None:
    work = tmp_path / "scratch" / "fingerprint"
    for path in (tmp_path / ".results.abc" / "half", tmp_path / ".results.abc.old" / "x", work / "state"):
        path.parent.mkdir(parents=True)
        path.touch()
    (tmp_path / ".other.txt.abc").touch()
    (work / ".state.abc").touch()
    sweep([folder], tmp_path / "scratch")
    assert names(tmp_path) == [".other.txt.abc", "results", "scratch"]
    assert names(folder) == ["old.txt"]
    assert names(work) == ["state"]


def test_a_folder_of_a_run_that_was_killed_between_the_two_renames_is_put_back(folder: Path) -> None:
    (folder.parent / ".results.abc").mkdir()
    folder.rename(folder.parent / ".results.abc.old")
    sweep([folder], folder.parent / "scratch")
    assert names(folder.parent) == ["results"]
    assert names(folder) == ["old.txt"]


@pytest.mark.parametrize(("error", "message"), [(FULL, "file: No space left"), (KeyboardInterrupt(), "^$")])
def test_a_failing_write_leaves_the_old_file_and_nothing_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, message: str
) -> None:
    path = folder / "new" / "file"
    write_atomic(path, b"old")
    monkeypatch.setattr(os, "fsync", Mock(side_effect=error))
    with pytest.raises((PipelineError, KeyboardInterrupt), match=message):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(path.parent) == ["file"]


def test_files_and_folders_are_as_readable_as_the_umask_says(tmp_path: Path, folder: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "file", b"")
        replace(folder)
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    assert folder.stat().st_mode & 0o777 == 0o750
