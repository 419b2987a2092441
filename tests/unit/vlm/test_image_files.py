"""Names of images: files, folders, patterns; an error for a name that stands for none.

Run: .venv/bin/python -m pytest tests/unit/vlm/test_image_files.py
"""

from pathlib import Path

import pytest

from vlm.image_files import FoundImages, find_images


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """b.jpg, a.PNG, notes.txt, .hidden.jpg and deep/c.webp in the current folder."""
    (tmp_path / "deep").mkdir()
    for name in ("b.jpg", "a.PNG", "notes.txt", ".hidden.jpg", "deep/c.webp"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def paths(found: FoundImages) -> list[str]:
    return [path.as_posix() for path in found.paths]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["."], ["a.PNG", "b.jpg"]),
        # Patterns are expanded where the shell did not.
        (["*.jpg"], ["b.jpg"]),
        (["**/*.webp"], ["deep/c.webp"]),
        # Files keep their order, and are there once.
        (["b.jpg", "notes.txt", ".", "b.jpg"], ["b.jpg", "notes.txt", "a.PNG"]),
    ],
)
def test_names_stand_for_files(names: list[str], expected: list[str]) -> None:
    found = find_images(names)
    assert paths(found) == expected
    assert found.errors == []


@pytest.mark.usefixtures("folder")
def test_the_folders_of_a_folder_are_looked_into_when_asked_to() -> None:
    assert paths(find_images(["."], recursive=True)) == ["a.PNG", "b.jpg", "deep/c.webp"]


def test_a_file_with_the_letters_of_a_pattern_is_itself(folder: Path) -> None:
    (folder / "[b].jpg").touch()
    assert paths(find_images(["[b].jpg"])) == ["[b].jpg"]


@pytest.mark.usefixtures("folder")
def test_a_name_that_stands_for_none_is_an_error_and_stops_no_other() -> None:
    found = find_images(["none.jpg", "b.jpg", "*.gif"])
    assert paths(found) == ["b.jpg"]
    missing, pattern = map(str, found.errors)
    assert missing == "none.jpg does not exist; expected an image, a folder or a pattern."
    assert pattern.startswith("no file matches *.gif;")


def test_a_folder_without_images_says_where_it_looked(folder: Path) -> None:
    (folder / "empty").mkdir()
    (flat,) = find_images(["empty"]).errors
    assert "the folder empty holds no images (.bmp, .gif," in str(flat)
    assert "--recursive looks" in str(flat)
    (deep,) = find_images(["empty"], recursive=True).errors
    assert "--recursive" not in str(deep)


def test_files_of_a_folder_that_are_passed_over_are_counted_by_kind(folder: Path) -> None:
    """Not so before: .avif, .heic and .jp2 were left out without a word."""
    for name in ("1.heic", "2.HEIC", "deep/3.avif", "Makefile"):
        (folder / name).touch()
    flat, deep = find_images(["."]), find_images(["."], recursive=True)
    assert flat.passed_over == {".heic": 2, ".txt": 1, "without a suffix": 1}
    assert deep.passed_over == flat.passed_over | {".avif": 1}
    assert deep.notes()[0].startswith("5 files were passed over (2 .heic, ")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("name", "recursive", "notes"),
    [
        (".", False, ["1 folder was passed over (deep); --recursive looks into the folders of a folder."]),
        ("*", False, ["1 folder was passed over (deep); --recursive looks into the folders of a folder."]),
        (".", True, []),
        ("**/*", False, []),
        ("*.jpg", False, []),
    ],
)
def test_folders_that_are_passed_over_are_counted(name: str, recursive: bool, notes: list[str]) -> None:
    """They were dropped without a word."""
    found = find_images([name], recursive).notes()
    assert [note for note in found if "folder was" in note] == notes
