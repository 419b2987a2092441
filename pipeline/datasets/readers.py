"""The readers of caption datasets: each turns one family of files into a Listing.

They read text only; whether the images are there is checked for all of them in `pipeline.datasets.read`.
"""

import csv
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.captions import Split
from pipeline.datasets.checks import (
    Listing,
    check_image_id,
    check_new,
    clean_caption,
    clean_captions,
    parse_json,
    read_lines,
    read_text,
    to_split,
)
from pipeline.errors import PipelineError

log = logging.getLogger(__name__)

# Karpathy's restval is what COCO's validation images leave over; everyone trains on it.
_KARPATHY_SPLITS: dict[str, Split] = {
    "train": "train",
    "restval": "train",
    "val": "dev",
    "test": "test",
}


def read_karpathy(root: Path, image_folder: Path | None = None) -> Listing:
    """Karpathy's JSON of Flickr8k, Flickr30k, COCO, ...; `root` is its folder or the file.

    Images are looked for in `image_folder`; None: in images/ beside the file, or beside it.
    """
    source = root if root.is_file() else _karpathy_file(root)
    content = parse_json(read_text(source), source)
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list) or not images:
        raise PipelineError(f'{source} lists no images; expected {{"images": [{{"filename": ...}}, ...]}}.')
    captions: dict[str, list[str]] = {}
    splits: dict[str, Split] = {}
    for number, image in enumerate(images):
        place = f"{source}: images[{number}]"
        if not isinstance(image, dict):
            raise PipelineError(f"{place} is {image!r:.60}, expected an object.")
        # COCO's file names repeat nothing, but its files lie in train2014/ and val2014/.
        name, prefix = image.get("filename"), image.get("filepath")
        image_id = check_image_id(f"{prefix}/{name}" if prefix and name else name, place)
        place = f"{place} ({image_id})"
        split = to_split(image.get("split"), place, _KARPATHY_SPLITS)
        check_new(image_id, split, splits, place)
        sentences = image.get("sentences")
        if isinstance(sentences, list):
            sentences = [s.get("raw") if isinstance(s, dict) else s for s in sentences]
        captions[image_id] = clean_captions(sentences, place)
        splits[image_id] = split
    parent, first = source.parent, next(iter(splits))
    folders = [image_folder] if image_folder else [parent / "images", parent]
    # Whichever holds the first image; if none does, the one that would be expected to.
    folder = next((f for f in folders if (f / first).is_file()), folders[0])
    log.info("Karpathy's format: images in %s, captions in %s", folder, source)
    return Listing(source, folder, captions, splits)


def read_jsonl(root: Path) -> Listing:
    """captions.jsonl: an image, its captions and maybe its split on each line."""
    source = root / "captions.jsonl"
    captions: dict[str, list[str]] = {}
    splits: dict[str, Split | None] = {}
    for place, line in read_lines(source):
        row = parse_json(line, source, first_line=int(place.rpartition(":")[2]))
        if not isinstance(row, dict):
            raise PipelineError(f'{place} holds {row!r:.60}, expected {{"image": ..., "captions": [...]}}.')
        image_id = check_image_id(row.get("image"), place)
        split = to_split(row["split"], place) if "split" in row else None
        check_new(image_id, split, splits, place)
        captions[image_id] = clean_captions(row.get("captions"), place)
        splits[image_id] = split
    return Listing(source, root, captions, _all_or_none(source, splits))


def read_csv(root: Path) -> Listing:
    """captions.csv with the header image,caption or image,caption,split: a caption on each row."""
    source = root / "captions.csv"
    captions: dict[str, list[str]] = {}
    splits: dict[str, Split | None] = {}
    for place, row in read_rows(source, optional=("split",)):
        image_id = check_image_id(row["image"], place)
        split = to_split(row["split"], place) if "split" in row else None
        if splits.setdefault(image_id, split) != split:
            check_new(image_id, split, splits, place)
        captions.setdefault(image_id, []).append(clean_caption(row["caption"], place))
    return Listing(source, root, captions, _all_or_none(source, splits))


def _all_or_none(source: Path, splits: dict[str, Split | None]) -> dict[str, Split] | None:
    """The splits if each image has one, None if none has."""
    known = {image_id: split for image_id, split in splits.items() if split is not None}
    if known and len(known) < len(splits):
        without = next(image_id for image_id in splits if image_id not in known)
        raise PipelineError(
            f"{source} gives some images a split but not {without!r}; give all images one, or none."
        )
    if not known:
        log.info("%s has no splits: made from hashes of the names (80/10/10)", source)
    return known or None


def karpathy_files(root: Path) -> list[Path]:
    """The JSON files in Karpathy's format in a folder: dataset.json, else all dataset_*.json."""
    plain = root / "dataset.json"
    return [plain] if plain.is_file() else sorted(root.glob("dataset_*.json"))


def _karpathy_file(root: Path) -> Path:
    found = karpathy_files(root)
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise PipelineError(
            f"{root} needs dataset.json or exactly one dataset_*.json, found {names}; "
            "or let data.root be the JSON file itself."
        )
    return found[0]


def read_rows(source: Path, optional: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield `(place, row)` of a CSV file whose header is image,caption and maybe `optional`."""
    allowed = f"image,caption{''.join(f'[,{name}]' for name in optional)}"
    reader = csv.reader(io.StringIO(read_text(source), newline=""), strict=True)
    header: list[str] | None = None
    line = 1
    try:
        for cells in reader:
            place, first, line = f"{source}:{line}", line, reader.line_num + 1
            if not cells:
                continue
            if header is None:
                header = cells
                if not {"image", "caption"} <= set(header) <= {"image", "caption", *optional}:
                    raise PipelineError(
                        f"{place}: the header is {','.join(cells)!r:.60}; allowed: {allowed}."
                    )
            elif line - first > 1:
                raise PipelineError(f"{place} goes on in the next line; close its quotation mark.")
            elif len(cells) != len(header):
                raise PipelineError(
                    f"{place} has {len(cells)} cells, not {len(header)} ({','.join(header)}); "
                    "a caption with a comma needs quotation marks around it."
                )
            else:
                yield place, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise PipelineError(f"{source}:{line} is malformed CSV: {error}.") from error
    if header is None:
        raise PipelineError(f"{source} is empty; expected the header {allowed} and a caption a row.")
