"""Results take their place whole; what is not finished is never seen under their name, and does not stay."""

import os
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.files.atomic import replace_file, replace_folder, sweep


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An old folder with one file."""
    old = tmp_path / "results"
    old.mkdir()
    (old / "old.txt").write_text("old")
    return old


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_is_replaced_as_a_whole(folder: Path) -> None:
    with replace_folder(folder) as fresh:
        (fresh / "new.txt").write_text("new")
        assert names(folder) == ["old.txt"]
    assert names(folder) == ["new.txt"]
    assert names(folder.parent) == ["results"]


def test_a_folder_that_was_not_there_is_made(tmp_path: Path) -> None:
    with replace_folder(tmp_path / "a" / "b") as fresh:
        (fresh / "x").touch()
    assert names(tmp_path / "a" / "b") == ["x"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, PipelineError])
def test_a_folder_that_fails_leaves_the_old_one_and_nothing_else(
    folder: Path, error: type[BaseException]
) -> None:
    def fail() -> None:
        with replace_folder(folder) as fresh:
            (fresh / "new.txt").write_text("new")
            raise error

    with pytest.raises(error):
        fail()
    assert names(folder) == ["old.txt"]
    assert names(folder.parent) == ["results"]


def test_folders_are_as_readable_as_the_umask_says(folder: Path) -> None:
    before = os.umask(0o027)
    try:
        with replace_folder(folder):
            pass
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o750


def test_a_refusal_while_writing_is_a_sentence(folder: Path) -> None:
    with pytest.raises(PipelineError, match=r"cannot write .*results: No space left"), replace_folder(folder):
        raise OSError(28, "full")
    assert names(folder) == ["old.txt"]


def test_what_a_killed_run_left_is_swept(tmp_path: Path, folder: Path) -> None:
    """A run that is killed carries out no `finally`: here it is not even begun."""
    (tmp_path / ".results.abc").mkdir()
    (tmp_path / ".results.abc" / "half").touch()
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


def test_a_file_in_the_making_has_another_name(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with replace_file(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.parent == tmp_path
    assert path.read_text() == "new"
    assert names(tmp_path) == ["file"]
