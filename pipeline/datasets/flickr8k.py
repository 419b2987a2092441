"""Flickr8k in a folder, in whichever of its layouts people have it: detected, and said which.

- official: `Flickr8k.token.txt` with the lists of the splits;
- Karpathy's: `dataset.json` or `dataset_flickr8k.json`, with the same splits;
- Kaggle's: `captions.txt`, which has no splits: those of the official lists where they lie beside it, else
  made from hashes.

Where several lie together, the first of them that has splits is taken.
"""

import logging
import re
from pathlib import Path

from pipeline.captions import Split
from pipeline.datasets.checks import Listing, check_image_id, check_new, clean_caption, read_lines
from pipeline.datasets.readers import karpathy_files, read_karpathy, read_rows
from pipeline.errors import PipelineError

log = logging.getLogger(__name__)

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
_SHOWN = 8  # so many names of what is in a folder

# Captions of each image, not yet checked, each with its place: most of Flickr8k's oddities concern
# images in no split, and must not stop those who do not use them.
_Captions = dict[str, list[tuple[str, str]]]


def read_flickr8k(root: Path) -> Listing:
    """The captions and splits of a folder with Flickr8k; the layout found is logged.

    Raises PipelineError saying what is missing and what is there instead.
    """
    published = (root / _TOKENS, root / _TEXTS / _TOKENS)
    tokens = next((file for file in published if file.is_file()), None)
    karpathy = _karpathy_file(root)
    if karpathy and not (tokens and _has_splits(tokens)):
        log.info("Flickr8k in Karpathy's layout, splits as published")
        return read_karpathy(karpathy, _image_folder(root))
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
    raw = _read_tokens(source) if tokens else _read_kaggle(source)
    splits = _read_splits(source, required=tokens is not None)
    used = raw.keys() if splits is None else raw.keys() & splits.keys()
    log.info(
        "Flickr8k in %s layout, splits %s",
        "its official" if tokens else "Kaggle's",
        "made from hashes of the names (80/10/10)" if splits is None else "as published",
    )
    if len(raw) > len(used):
        log.info("%d images have captions but are in no split; they stay unused", len(raw) - len(used))
    captions = {
        check_image_id(name, raw[name][0][1]): [clean_caption(text, place) for text, place in raw[name]]
        for name in sorted(used)
    }
    return Listing(source, folder, captions, splits)


def _karpathy_file(root: Path) -> Path | None:
    """Karpathy's file of Flickr8k: other datasets' may lie beside it."""
    found = [file for file in karpathy_files(root) if file.name in ("dataset.json", _KARPATHY)]
    return found[0] if found else None


def _image_folder(root: Path) -> Path | None:
    nested = [root / outer / inner for outer in _ARCHIVE_FOLDERS for inner in _ARCHIVE_FOLDERS]
    plain = [root / name for name in (*_ARCHIVE_FOLDERS, *_PLAIN_FOLDERS)]
    return next((folder for folder in (*nested, *plain) if folder.is_dir()), None)


def _contents(root: Path) -> str:
    names = sorted(f"{path.name}/" if path.is_dir() else path.name for path in root.iterdir())
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) or "nothing") + more


def _read_tokens(source: Path) -> _Captions:
    captions: _Captions = {}
    numbered = set()
    for place, line in read_lines(source):
        match = _TOKEN_LINE.fullmatch(line)
        if match is None:
            raise PipelineError(f"{place} is {line!r:.60}, expected name.jpg#number, a tab and a caption.")
        name, number, text = match.groups()
        if (name, number) in numbered:
            raise PipelineError(f"{place} repeats caption {number} of {name!r}; remove one of the two.")
        numbered.add((name, number))
        captions.setdefault(name, []).append((text, place))
    return captions


def _read_kaggle(source: Path) -> _Captions:
    captions: _Captions = {}
    for place, row in read_rows(source):
        captions.setdefault(row["image"], []).append((row["caption"], place))
    return captions


def _has_splits(source: Path) -> bool:
    return all((source.parent / name).is_file() for name in _SPLIT_LISTS.values())


def _read_splits(source: Path, required: bool) -> dict[str, Split] | None:
    """The published splits beside `source`; None if there are none and none is required."""
    files = {split: source.parent / name for split, name in _SPLIT_LISTS.items()}
    missing = [file for file in files.values() if not file.is_file()]
    if len(missing) == len(files) and not required:
        return None
    if missing:
        names = ", ".join(_SPLIT_LISTS.values())
        raise PipelineError(f"{missing[0]} does not exist; put {names} beside {source.name}.")
    splits: dict[str, Split] = {}
    for split, file in files.items():
        for place, line in read_lines(file):
            image_id = check_image_id(line.strip(), place)
            check_new(image_id, split, splits, place)
            splits[image_id] = split
    return splits
