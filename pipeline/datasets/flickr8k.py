"""Flickr8k in a folder, in whichever of its layouts people have it: detected, and said which.

- official: `Flickr8k.token.txt` with the lists of the splits;
- Karpathy's: `dataset.json` or `dataset_flickr8k.json`, with the same splits;
- Kaggle's: `captions.txt`, which has no splits: those of the official lists where they lie next to it.

Where several lie together, the first of them that has splits is taken.
"""

import logging
import re
from collections.abc import Iterator
from pathlib import Path

from pipeline.captions import Split
from pipeline.datasets.listing import Listing
from pipeline.datasets.readers import karpathy_files, read_karpathy
from pipeline.datasets.text_files import read_lines, read_rows
from pipeline.errors import PipelineError, first_few

logger = logging.getLogger(__name__)

# The archive's folder is misspelt; people unpack it as it is, mended, or into a folder of its own.
_ARCHIVE_FOLDERS = ("Flicker8k_Dataset", "Flickr8k_Dataset")
_PLAIN_FOLDERS = ("Images", "images")
_TEXTS = "Flickr8k_text"
_TOKENS = "Flickr8k.token.txt"
_KAGGLE = "captions.txt"
_KARPATHY = "dataset_flickr8k.json"
_SPLIT_LISTS: dict[Split, str] = {
    "train": "Flickr_8k.trainImages.txt",
    "dev": "Flickr_8k.devImages.txt",
    "test": "Flickr_8k.testImages.txt",
}
_TOKEN_LINE = re.compile(r"([^\t]+)#(\d+)\t(.*)")


def read_flickr8k(root: Path) -> Listing:
    """The captions and splits of a folder with Flickr8k; the layout found is logged.

    Raises PipelineError saying what is missing and what is there instead.
    """
    published = (root / _TOKENS, root / _TEXTS / _TOKENS)
    tokens = next((file for file in published if file.is_file()), None)
    # Other datasets' files in Karpathy's format may lie next to that of Flickr8k.
    karpathy = [file for file in karpathy_files(root) if file.name in ("dataset.json", _KARPATHY)]
    if karpathy and not (tokens and all(file.is_file() for file in _split_lists(tokens).values())):
        logger.info("Flickr8k in Karpathy's layout")
        return read_karpathy(karpathy[0], _image_folder(root))
    source = tokens or root / _KAGGLE
    if not source.is_file():
        raise PipelineError(
            f"{root} has neither {_TOKENS} nor {_KAGGLE} nor {_KARPATHY}; put the captions of Flickr8k "
            f"there or change data.root. It holds {_contents(root)}."
        )
    folder = _image_folder(root)
    if folder is None:
        raise PipelineError(
            f"{root} has no folder {_ARCHIVE_FOLDERS[0]}, {_ARCHIVE_FOLDERS[1]} or {_PLAIN_FOLDERS[0]}; "
            f"unpack the images of Flickr8k there or change data.root. It holds {_contents(root)}."
        )
    logger.info("Flickr8k in %s layout", "its official" if tokens else "Kaggle's")
    return _listing(source, folder, has_lists=tokens is not None)


def _listing(source: Path, folder: Path, has_lists: bool) -> Listing:
    """The images of the split lists next to `source`, which must be there if `has_lists`; else all images."""
    listing = Listing(source, folder)
    lists = _split_lists(source)
    missing = [file for file in lists.values() if not file.is_file()]
    has_lists = has_lists or len(missing) < len(lists)
    if has_lists and missing:
        names = ", ".join(_SPLIT_LISTS.values())
        raise PipelineError(f"{missing[0]} does not exist; put {names} beside {source.name}.")
    for split, file in lists.items() if has_lists else ():
        for place, line in read_lines(file):
            listing.add_image(line.strip(), split, place)
    unused = set()
    for name, text, place in _read_tokens(source) if source.name == _TOKENS else _read_kaggle(source):
        if not has_lists:
            listing.add_image(name, None, place, again=True)
        # Most of Flickr8k's oddities concern images in no split, and must not stop those who do not use them.
        if name in listing.captions:
            listing.add_captions(name, [text], place)
        else:
            unused.add(name)
    if unused:
        logger.info("%d images have captions but are in no split; they stay unused", len(unused))
    return listing


def _split_lists(source: Path) -> dict[Split, Path]:
    return {split: source.parent / name for split, name in _SPLIT_LISTS.items()}


def _image_folder(root: Path) -> Path | None:
    nested = [root / outer / inner for outer in _ARCHIVE_FOLDERS for inner in _ARCHIVE_FOLDERS]
    plain = [root / name for name in (*_ARCHIVE_FOLDERS, *_PLAIN_FOLDERS)]
    return next((folder for folder in (*nested, *plain) if folder.is_dir()), None)


def _contents(root: Path) -> str:
    names = sorted(f"{path.name}/" if path.is_dir() else path.name for path in root.iterdir())
    return first_few(names, 8) or "nothing"


def _read_tokens(source: Path) -> Iterator[tuple[str, str, str]]:
    """Yield name, caption and place of each line."""
    numbered = set()
    for place, line in read_lines(source):
        match = _TOKEN_LINE.fullmatch(line)
        if match is None:
            raise PipelineError(f"{place} is {line!r:.60}, expected name.jpg#number, a tab and a caption.")
        name, number, text = match.groups()
        if (name, number) in numbered:
            raise PipelineError(f"{place} repeats caption {number} of {name!r}; remove one of the two.")
        numbered.add((name, number))
        yield name, text, place


def _read_kaggle(source: Path) -> Iterator[tuple[str, str, str]]:
    for place, row in read_rows(source):
        yield row["image"], row["caption"], place
