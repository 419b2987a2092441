"""What a user means by names of images: files, folders and patterns -> image files."""

import glob
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.errors import PipelineError

# Of folders, what is named as the formats that `pipeline.images.images` reads.
_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def find_images(names: Iterable[str], recursive: bool = False) -> Iterator[Path | PipelineError]:
    """Yield the image files that `names` stand for, in their order, each file once.

    Args:
        names: files; folders (the images in them, sorted by name, hidden ones left out); or patterns
            with `*`, `?`, `[...]` and `**`, where no file has that very name.
        recursive: look into the folders' folders as well.

    Yields:
        A path, or the error of a name that stands for none. Files named one by one are not looked into.
    """
    seen: set[Path] = set()
    for name in names:
        found = _expand(name, recursive)
        if isinstance(found, PipelineError):
            yield found
            continue
        for path in found:
            if path not in seen:
                seen.add(path)
                yield path


def _expand(name: str, recursive: bool) -> list[Path] | PipelineError:
    path = Path(name)
    if path.is_dir():
        return _images_in(path, recursive)
    if path.exists():
        return [path]
    if not glob.has_magic(name):
        return PipelineError(f"{path} does not exist; expected an image, a folder or a pattern.")
    matches = [Path(match) for match in sorted(glob.glob(name, recursive=True))]  # noqa: PTH207
    files = [match for match in matches if match.is_file()]
    return files or PipelineError(f"no file matches {name}; give an image file, a folder or a pattern.")


def _images_in(folder: Path, recursive: bool) -> list[Path] | PipelineError:
    try:
        below = sorted(folder.rglob("*") if recursive else folder.iterdir())
    except OSError as error:
        return PipelineError(f"cannot read {folder}: {error.strerror}.")
    images = [
        path
        for path in below
        if path.suffix.lower() in _SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    ]
    if images:
        return images
    more = "" if recursive else "; --recursive looks into its folders as well"
    return PipelineError(f"the folder {folder} holds no images ({', '.join(_SUFFIXES)}){more}.")
