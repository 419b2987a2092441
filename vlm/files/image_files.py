"""Names of images as a user gives them (files, folders, patterns) -> image files."""

import glob
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import first_few
from pipeline.images.images import INSTALL_HEIC, READS_HEIC

# The formats that `pipeline.images.images` reads.
_HEIC = (".heic", ".heif")
_SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".j2k", ".jp2", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"),
    *(_HEIC if READS_HEIC else ()),
)


def text_file(image: Path) -> Path:
    """Return the file next to an image that has its caption, as `vlm caption --write txt` writes it."""
    return image.with_suffix(".txt")


@dataclass
class ImageFiles:
    """The image files that names stand for.

    Attributes:
        paths: the files, in the order of the names, each once.
        errors: a sentence for each name without an image.
        ignored: the number of other files in the folders, by suffix; text files with captions do not count.
        folders: folders in folders, or matched by patterns, that were not searched.
    """

    paths: dict[Path, None] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    folders: set[Path] = field(default_factory=set)

    def notes(self) -> list[str]:
        """Say which files and folders were ignored."""
        notes = []
        if count := self.ignored.total():
            kinds = ", ".join(f"{number} {kind}" for kind, number in self.ignored.most_common())
            only = f"From a folder only {', '.join(_SUFFIXES)} are read."
            heic = f" {INSTALL_HEIC}." if self.ignored.keys() & set(_HEIC) else ""
            notes.append(f"ignored {count} file{'s' * (count > 1)} ({kinds}). {only}{heic}")
        if count := len(self.folders):
            names = first_few(sorted(map(str, self.folders)))
            more = "--recursive reads the folders of a folder."
            notes.append(f"ignored {count} folder{'s' * (count > 1)} ({names}). {more}")
        return notes

    def add_matches(self, pattern: str) -> None:
        """Add the files that a pattern matches."""
        matches = [Path(match) for match in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207
        files = [match for match in matches if match.is_file()]
        self.paths |= dict.fromkeys(files)
        if files:
            searched = {folder for match in matches for folder in match.parents}  # by `**`
            self.folders |= {match for match in matches if match.is_dir()} - searched
        else:
            problem = f"no file matches {pattern}" if glob.has_magic(pattern) else f"{pattern} does not exist"
            self.errors.append(f"{problem}. Fix: pass an image file, a folder or a pattern.")

    def add_folder(self, folder: Path, recursive: bool) -> None:
        """Add the images of a folder, sorted by name, without hidden files."""
        try:
            paths = sorted(folder.rglob("*") if recursive else folder.iterdir())
        except OSError as error:
            self.errors.append(f"cannot read {folder}: {error.strerror}.")
            return
        visible = [path for path in paths if "/." not in f"/{path.relative_to(folder).as_posix()}"]
        files = [path for path in visible if not path.is_dir()]
        images = [path for path in files if path.suffix.lower() in _SUFFIXES]
        self.paths |= dict.fromkeys(images)
        folders = set() if recursive else set(visible) - set(files)
        self.folders |= folders
        if images:
            others = set(files) - set(images) - set(map(text_file, images))
            self.ignored.update(path.suffix.lower() or "without a suffix" for path in others)
        else:
            more = " Fix: --recursive also reads its folders." if folders else ""
            self.errors.append(f"the folder {folder} has no images ({', '.join(_SUFFIXES)}).{more}")


def find_images(names: Iterable[str], recursive: bool = False) -> ImageFiles:
    """Find the image files that `names` stand for.

    Args:
        names: files, taken as they are; folders; or patterns with `*`, `?`, `[...]` and `**`, if no file has
            that very name.
        recursive: search the folders of folders too.
    """
    images = ImageFiles()
    for name in names:
        # Path.is_dir and Path.exists raise an error for a name that is longer than the system allows.
        if os.path.isdir(name):  # noqa: PTH112
            images.add_folder(Path(name), recursive)
        elif os.path.exists(name):  # noqa: PTH110
            images.paths[Path(name)] = None
        else:
            images.add_matches(name)
    return images
