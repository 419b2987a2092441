"""Names of images: files, folders, patterns; an error for a name without an image.

Run: .venv/bin/python -m pytest tests/unit/vlm/test_image_files.py
"""

from pathlib import Path

import pytest

from pipeline.images.images import READS_HEIC
from vlm.files.image_files import find_images


@pytest.fixture(autouse=True)
def _files(here: Path) -> None:
    """b.jpg, a.PNG, notes.txt, .hidden.jpg, [c].jpg and deep/d.webp in the current folder."""
    (here / "deep").mkdir()
    for name in ("b.jpg", "a.PNG", "notes.txt", ".hidden.jpg", "[c].jpg", "deep/d.webp"):
        (here / name).touch()


FOLDER = "ignored 1 folder (deep)"
TEXT = "ignored 1 file (1 .txt)"


@pytest.mark.parametrize(
    ("names", "recursive", "expected", "notes"),
    [
        (["."], False, ["[c].jpg", "a.PNG", "b.jpg"], [TEXT, FOLDER]),
        (["."], True, ["[c].jpg", "a.PNG", "b.jpg", "deep/d.webp"], [TEXT]),
        # Patterns are expanded where the shell did not.
        (["**/*.webp"], False, ["deep/d.webp"], []),
        (["[bd]*"], False, ["b.jpg"], [FOLDER]),
        # A file with the letters of a pattern is itself.
        (["[c].jpg"], False, ["[c].jpg"], []),
        # Files keep their order, and are there once.
        (["b.jpg", "notes.txt", "**/*.webp", "b.jpg"], False, ["b.jpg", "notes.txt", "deep/d.webp"], []),
    ],
)
def test_names_are_files(names: list[str], recursive: bool, expected: list[str], notes: list[str]) -> None:
    """Folders, and files like .txt, were dropped without a word."""
    images = find_images(names, recursive)
    assert [path.as_posix() for path in images.paths] == expected
    for note, start in zip(images.notes(), notes, strict=True):
        assert note.startswith(start)


def test_ignored_files_are_counted_by_kind(here: Path) -> None:
    for name in ("1.xcf", "2.XCF", "deep/3.psd", "Makefile"):
        (here / name).touch()
    images = find_images(["."], recursive=True)
    assert images.ignored == {".xcf": 2, ".txt": 1, ".psd": 1, "without a suffix": 1}
    assert images.notes()[0].startswith("ignored 5 files (2 .xcf, ")


def test_captions_next_to_their_images_are_not_counted(here: Path) -> None:
    for name in ("b.txt", "deep/d.txt"):
        (here / name).touch()
    assert find_images(["."], recursive=True).ignored == {".txt": 1}


def test_photos_of_cameras_and_telephones_are_found(here: Path) -> None:
    for name in ("1.avif", "2.jp2", "3.heic"):
        (here / "deep" / name).touch()
    images = find_images(["deep"])
    heic = ["3.heic"] if READS_HEIC else []
    assert [path.name for path in images.paths] == ["1.avif", "2.jp2", *heic, "d.webp"]
    assert READS_HEIC or "1 .heic" in images.notes()[0]
    assert READS_HEIC or "pip install" in images.notes()[0]


def test_a_name_without_an_image_is_an_error_and_stops_no_other(here: Path) -> None:
    (here / "outer" / "empty").mkdir(parents=True)
    images = find_images(["none.jpg", "b.jpg", "*.gif", "outer", "outer/empty"])
    assert [*images.paths] == [Path("b.jpg")]
    missing, pattern, outer, empty = images.errors
    assert missing.startswith("none.jpg does not exist")
    assert pattern.startswith("no file matches *.gif")
    assert empty.startswith("the folder outer/empty has no images (.avif, .bmp,")
    assert ("--recursive" in outer, "--recursive" in empty) == (True, False)
