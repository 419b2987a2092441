"""Read a folder with Flickr8k in any of its layouts; the layout is detected and logged.

- official: `Flickr8k.token.txt` with the lists of the splits;
- Karpathy's: `dataset.json` or `dataset_flickr8k.json`, with the same splits;
- Kaggle's: `captions.txt`, which has no splits: the official lists are used if they lie next to it.

If several lie together, the first of them that has splits is read.
"""

import logging
import re
from collections.abc import Iterator
from pathlib import Path

from pipeline.captions import SPLITS
from pipeline.datasets.listing import Listing
from pipeline.datasets.readers import karpathy_files, read_karpathy_file
from pipeline.datasets.text_files import read_lines, read_rows
from pipeline.errors import PipelineError, first_few

logger = logging.getLogger(__name__)

# The archive's folder is misspelt; people unpack it as it is, corrected, or into another folder.
_ARCHIVE_FOLDERS = ("Flicker8k_Dataset", "Flickr8k_Dataset")
_IMAGE_FOLDERS = (
    *(f"{outer}/{inner}" for outer in _ARCHIVE_FOLDERS for inner in _ARCHIVE_FOLDERS),
    *_ARCHIVE_FOLDERS,
    "Images",
    "images",
)
_TOKENS = "Flickr8k.token.txt"
_KAGGLE = "captions.txt"
_KARPATHY = "dataset_flickr8k.json"
_SPLIT_LISTS = {split: f"Flickr_8k.{split}Images.txt" for split in SPLITS}
_TOKEN_LINE = re.compile(r"([^\t]+)#(\d+)\t(.*)")


def find_flickr8k(root: Path) -> tuple[Path, Path]:
    """Find the file of captions and the folder of the images, in whichever layout.

    Raises PipelineError saying what is missing and what the folder holds.
    """
    folder = next((root / name for name in _IMAGE_FOLDERS if (root / name).is_dir()), None)
    published = (root / _TOKENS, root / "Flickr8k_text" / _TOKENS)
    tokens = next((file for file in published if file.is_file()), None)
    # Other datasets' files in Karpathy's format may lie next to that of Flickr8k.
    karpathy = [file for file in karpathy_files(root) if file.name in ("dataset.json", _KARPATHY)]
    if karpathy and not (tokens and all((tokens.parent / name).is_file() for name in _SPLIT_LISTS.values())):
        return karpathy[0], folder or root
    source = tokens or root / _KAGGLE
    if folder is None or not source.is_file():
        captions = f"captions: {_TOKENS}, {_KAGGLE} or {_KARPATHY}"
        missing = f"images: a folder {_ARCHIVE_FOLDERS[0]} or Images" if source.is_file() else captions
        names = sorted(f"{path.name}/" if path.is_dir() else path.name for path in root.iterdir())
        raise PipelineError(
            f"{root} lacks Flickr8k's {missing}; it holds {first_few(names, 8) or 'nothing'}. "
            "Fix: put them there or change data.root."
        )
    return source, folder


def read_flickr8k(root: Path) -> Listing:
    """Read captions and splits. Raises PipelineError where a file is missing or wrong."""
    source, folder = find_flickr8k(root)
    layout = {_TOKENS: "its official", _KAGGLE: "Kaggle's"}.get(source.name, "Karpathy's")
    logger.info("Flickr8k in %s layout", layout)
    return read_karpathy_file(source, folder) if source.suffix == ".json" else _read_texts(source, folder)


def _read_texts(source: Path, folder: Path) -> Listing:
    """Read the images of the split lists next to `source`, or all if Kaggle's captions lie there alone."""
    listing = Listing(source, folder)
    lists = {split: source.parent / name for split, name in _SPLIT_LISTS.items()}
    missing = [file for file in lists.values() if not file.is_file()]
    has_lists = source.name == _TOKENS or len(missing) < len(lists)
    if has_lists and missing:
        names = ", ".join(_SPLIT_LISTS.values())
        raise PipelineError(f"{missing[0]} does not exist. Fix: put {names} next to {source.name}.")
    for split, file in lists.items() if has_lists else ():
        for place, line in read_lines(file):
            listing.add_image(line.strip(), split, place)
    unused = set()
    kaggle = ((row["image"], row["caption"], place) for place, row in read_rows(source))
    for name, text, place in _read_tokens(source) if source.name == _TOKENS else kaggle:
        if not has_lists:
            listing.add_image(name, None, place, again=True)
        # Most of Flickr8k's oddities concern images in no split; they must not stop a run with splits.
        if name in listing.captions:
            listing.add_captions(name, [text], place)
        else:
            unused.add(name)
    if unused:
        logger.info("%d images have captions but are in no split; they stay unused", len(unused))
    return listing


def _read_tokens(source: Path) -> Iterator[tuple[str, str, str]]:
    """Yield name, caption and place of each line."""
    numbered = set()
    for place, line in read_lines(source):
        match = _TOKEN_LINE.fullmatch(line)
        if match is None:
            raise PipelineError(f"{place} is {line!r:.60}, expected name.jpg#number, a tab and a caption.")
        name, number, text = match.groups()
        if (name, number) in numbered:
            raise PipelineError(f"{place} repeats caption {number} of {name!r}. Fix: remove one of the two.")
        numbered.add((name, number))
        yield name, text, place
