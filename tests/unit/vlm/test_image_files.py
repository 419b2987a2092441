"""Names of images: files, folders, patterns; and an error in the place of a name that stands for none.

Run: .venv/bin/python -m pytest tests/unit/vlm/test_image_files.py
"""

from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from vlm.image_files import find_images


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """b.jpg, a.PNG, notes.txt, .hidden.jpg and deep/c.webp in the current folder."""
    (tmp_path / "deep").mkdir()
    for name in ("b.jpg", "a.PNG", "notes.txt", ".hidden.jpg", "deep/c.webp"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(*names: str, recursive: bool = False) -> list[str]:
    return [
        str(one) if isinstance(one, PipelineError) else one.as_posix()
        for one in find_images(names, recursive)
    ]


@pytest.mark.usefixtures("folder")
def test_a_folder_gives_its_images_sorted_and_not_those_below() -> None:
    assert found(".") == ["a.PNG", "b.jpg"]
    assert found(".", recursive=True) == ["a.PNG", "b.jpg", "deep/c.webp"]


@pytest.mark.usefixtures("folder")
def test_patterns_are_expanded_where_the_shell_did_not() -> None:
    assert found("*.jpg") == ["b.jpg"]
    assert found("**/*.webp") == ["deep/c.webp"]


def test_a_file_with_the_letters_of_a_pattern_is_itself(folder: Path) -> None:
    (folder / "[b].jpg").touch()
    assert found("[b].jpg") == ["[b].jpg"]


@pytest.mark.usefixtures("folder")
def test_files_keep_their_order_and_are_there_once() -> None:
    assert found("b.jpg", "notes.txt", ".", "b.jpg") == ["b.jpg", "notes.txt", "a.PNG"]


@pytest.mark.usefixtures("folder")
def test_a_name_that_stands_for_none_has_its_error_among_the_others() -> None:
    missing, file, pattern = found("none.jpg", "b.jpg", "*.gif")
    assert missing == "none.jpg does not exist; expected an image, a folder or a pattern."
    assert file == "b.jpg"
    assert pattern.startswith("no file matches *.gif; give an image file")


def test_a_folder_without_images_says_where_it_looked(folder: Path) -> None:
    (folder / "empty").mkdir()
    assert "the folder empty holds no images (.bmp, .gif," in found("empty")[0]
    assert "--recursive looks" in found("empty")[0]
    assert "--recursive" not in found("empty", recursive=True)[0]
