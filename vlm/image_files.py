"""Names of images as a user gives them (files, folders, patterns) -> image files."""

import glob
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import PipelineError, first_few

# The formats that `pipeline.images.images` reads.
_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


@dataclass
class ImageFiles:
    """The image files that names stand for.

    Attributes:
        paths: the files, in the order of the names, each once.
        errors: a sentence for each name without an image.
        ignored: the number of other files in the folders, by suffix.
        folders: folders in folders, or matched by patterns, that were not searched.
    """

    paths: list[Path] = field(default_factory=list)
    errors: list[PipelineError] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    folders: set[Path] = field(default_factory=set)

    def notes(self) -> list[str]:
        """Say which files and folders were ignored."""
        notes = []
        if count := self.ignored.total():
            kinds = ", ".join(f"{number} {kind}" for kind, number in self.ignored.most_common())
            only = f"From a folder only {', '.join(_SUFFIXES)} are read."
            notes.append(f"ignored {count} file{'s' * (count > 1)} ({kinds}). {only}")
        if count := len(self.folders):
            names = first_few(sorted(map(str, self.folders)))
            more = "--recursive reads the folders of a folder."
            notes.append(f"ignored {count} folder{'s' * (count > 1)} ({names}). {more}")
        return notes


def find_images(names: Iterable[str], recursive: bool = False) -> ImageFiles:
    """Find the image files that `names` stand for.

    Args:
        names: files, taken as they are; folders (the images in them, sorted by name, without hidden files);
            or patterns with `*`, `?`, `[...]` and `**`, if no file has that very name.
        recursive: search the folders of folders too.
    """
    images = ImageFiles()
    for name in names:
        path = Path(name)
        try:
            if path.is_dir():
                images.paths += _images_in(path, recursive, images)
            elif path.exists():
                images.paths.append(path)
            else:
                images.paths += _matches(name, images)
        except PipelineError as error:
            images.errors.append(error)
    images.paths = list(dict.fromkeys(images.paths))
    return images


def _matches(pattern: str, images: ImageFiles) -> list[Path]:
    matches = [Path(match) for match in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207
    files = [match for match in matches if match.is_file()]
    if not files:
        problem = f"no file matches {pattern}" if glob.has_magic(pattern) else f"{pattern} does not exist"
        raise PipelineError(f"{problem}. Fix: pass an image file, a folder or a pattern.")
    searched = {folder for match in matches for folder in match.parents}  # by `**`
    images.folders |= {match for match in matches if match.is_dir()} - searched
    return files


def _images_in(folder: Path, recursive: bool, images: ImageFiles) -> list[Path]:
    try:
        paths = sorted(folder.rglob("*") if recursive else folder.iterdir())
    except OSError as error:
        raise PipelineError(f"cannot read {folder}: {error.strerror}.") from error
    found = []
    for path in paths:
        suffix = path.suffix.lower()
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        if path.is_dir():
            images.folders |= set() if recursive else {path}
        elif suffix in _SUFFIXES:
            found.append(path)
        else:
            images.ignored[suffix or "without a suffix"] += 1
    if not found:
        more = "" if recursive else " Fix: --recursive also reads its folders."
        raise PipelineError(f"the folder {folder} has no images ({', '.join(_SUFFIXES)}).{more}")
    return found
