"""Results take their place whole; what is not finished is never seen under their name, and does not stay."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.files.atomic import replace_file, replace_folder, sweep
from pipeline.files.json_files import write_atomic


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
        if error is not None:
            raise error


def test_a_folder_is_replaced_as_a_whole(folder: Path) -> None:
    with replace_folder(folder) as fresh:
        (fresh / "new.txt").write_text("new")
        assert names(folder) == ["old.txt"]
    assert names(folder) == ["new.txt"]
    assert names(folder.parent) == ["results"]
    replace(folder / "a" / "b")
    assert names(folder / "a" / "b") == ["new.txt"]


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (KeyboardInterrupt(), "^$"),
        (PipelineError("a sentence"), "^a sentence$"),
        (OSError(errno.ENOSPC, "full"), r"cannot write .*results: No space left"),
    ],
)
def test_a_folder_that_fails_leaves_the_old_one_and_nothing_else(
    folder: Path, error: BaseException, seen: str
) -> None:
    with pytest.raises((KeyboardInterrupt, PipelineError), match=seen):
        replace(folder, error)
    assert names(folder) == ["old.txt"]
    assert names(folder.parent) == ["results"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.EIO, "no")])
def test_an_interruption_between_the_two_renames_leaves_the_old_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    rename = Path.rename
    renamed = []

    def fail_at_the_second(path: Path, target: Path) -> Path:
        renamed.append(target)
        if len(renamed) == 2:
            assert not folder.exists()
            raise error
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail_at_the_second)
    with pytest.raises((KeyboardInterrupt, PipelineError)):
        replace(folder)
    assert names(folder) == ["old.txt"]
    assert names(folder.parent) == ["results"]


def leave_unfinished(folder: Path) -> None:
    """What a killed run leaves: it carries out no `finally`."""
    (folder.parent / ".results.abc").mkdir()
    (folder.parent / ".results.abc" / "half").touch()


def test_what_a_killed_run_left_is_swept(tmp_path: Path, folder: Path) -> None:
    leave_unfinished(folder)
    (tmp_path / ".results.abc.old").mkdir()
    (tmp_path / ".other.txt.abc").touch()
    scratch = tmp_path / "scratch"
    (scratch / "fingerprint").mkdir(parents=True)
    (scratch / "fingerprint" / ".state.abc").touch()
    (scratch / "fingerprint" / "state").touch()
    sweep([folder], scratch)
    assert names(tmp_path) == [".other.txt.abc", "results", "scratch"]
    assert names(folder) == ["old.txt"]
    assert names(scratch / "fingerprint") == ["state"]


def test_a_folder_that_was_killed_between_its_two_renames_is_put_back(tmp_path: Path, folder: Path) -> None:
    leave_unfinished(folder)
    folder.rename(tmp_path / ".results.abc.old")
    sweep([folder], tmp_path / "scratch")
    assert names(tmp_path) == ["results"]
    assert names(folder) == ["old.txt"]


def test_a_file_is_written_with_its_folders_under_another_name(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    with replace_file(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.parent == path.parent
    assert path.read_text() == "new"
    assert names(path.parent) == ["file"]


def full() -> bytes:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def interrupt() -> bytes:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("fail", "said"), [(full, r"file: No space left on device \([\d,.]+ MB free there"), (interrupt, "^$")]
)
def test_a_failing_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail: Callable[[], bytes], said: str
) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")
    monkeypatch.setattr(os, "fsync", lambda _: fail())
    with pytest.raises((PipelineError, KeyboardInterrupt), match=said):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_folder_in_the_way_is_named(folder: Path) -> None:
    with pytest.raises(PipelineError, match=r"cannot write .*results"):
        write_atomic(folder, b"new")
    assert names(folder.parent) == ["results"]


def test_files_and_folders_are_as_readable_as_the_umask_says(tmp_path: Path, folder: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "file", b"")
        replace(folder)
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    assert folder.stat().st_mode & 0o777 == 0o750
