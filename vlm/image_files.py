"""What a user means by names of images: files, folders and patterns -> image files."""

import glob
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import PipelineError, first_few

# The files of a folder that are taken: those named as the formats that `pipeline.images.images` reads.
_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


@dataclass
class FoundImages:
    """The image files that names stand for.

    Attributes:
        paths: the files, in the order of the names, each once.
        errors: a sentence for each name that stands for none.
        passed_over: how many files of the folders are not named as images, by suffix.
        folders: those in folders, or matched by patterns, that were not looked into.
    """

    paths: list[Path] = field(default_factory=list)
    errors: list[PipelineError] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    folders: set[Path] = field(default_factory=set)

    def notes(self) -> list[str]:
        """Say what was passed over: "3 files were passed over (2 .avif, 1 .txt); ..."; folders likewise."""
        notes = []
        if count := self.passed_over.total():
            kinds = ", ".join(f"{number} {kind}" for kind, number in self.passed_over.most_common())
            files = "1 file was" if count == 1 else f"{count} files were"
            notes.append(f"{files} passed over ({kinds}); of folders {', '.join(_SUFFIXES)} are taken.")
        if self.folders:
            count = len(self.folders)
            folders = "1 folder was" if count == 1 else f"{count} folders were"
            named = first_few(sorted(map(str, self.folders)))
            notes.append(f"{folders} passed over ({named}); --recursive looks into the folders of a folder.")
        return notes


def find_images(names: Iterable[str], recursive: bool = False) -> FoundImages:
    """Find the image files that `names` stand for.

    Args:
        names: files, taken as they are; folders (the images in them, sorted by name, hidden files left out);
            or patterns with `*`, `?`, `[...]` and `**`, where no file has that very name.
        recursive: look into the folders' folders as well.
    """
    found = FoundImages()
    for name in names:
        try:
            found.paths += _expand(name, recursive, found)
        except PipelineError as error:
            found.errors.append(error)
    found.paths = list(dict.fromkeys(found.paths))
    return found


def _expand(name: str, recursive: bool, found: FoundImages) -> list[Path]:
    path = Path(name)
    if path.is_dir():
        return _images_in(path, recursive, found)
    if path.exists():
        return [path]
    if not glob.has_magic(name):
        raise PipelineError(f"{path} does not exist; expected an image, a folder or a pattern.")
    matches = [Path(match) for match in sorted(glob.glob(name, recursive=True))]  # noqa: PTH207
    files = [match for match in matches if match.is_file()]
    looked_into = {folder for match in matches for folder in match.parents}  # by `**`
    found.folders |= {match for match in matches if match.is_dir()} - looked_into
    if not files:
        raise PipelineError(f"no file matches {name}; give an image file, a folder or a pattern.")
    return files


def _images_in(folder: Path, recursive: bool, found: FoundImages) -> list[Path]:
    try:
        below = sorted(folder.rglob("*") if recursive else folder.iterdir())
    except OSError as error:
        raise PipelineError(f"cannot read {folder}: {error.strerror}.") from error
    images = []
    for path in below:
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        if not path.is_file():
            found.folders |= {path} if path.is_dir() and not recursive else set()
            continue
        suffix = path.suffix.lower()
        if suffix in _SUFFIXES:
            images.append(path)
        else:
            found.passed_over[suffix or "without a suffix"] += 1
    if not images:
        more = "" if recursive else "; --recursive looks into its folders as well"
        raise PipelineError(f"the folder {folder} holds no images ({', '.join(_SUFFIXES)}){more}.")
    return images
