"""A caption dataset on disk -> its images, each with its captions and its split.

`read_dataset` is the way in for every source that lies in a folder. It promises that each image is a file
inside the image folder, has a caption, is in one split, and that no split is empty.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.captions import SPLITS, Split
from pipeline.datasets.checks import Listing, split_by_hash
from pipeline.datasets.flickr8k import read_flickr8k
from pipeline.datasets.readers import read_csv, read_jsonl, read_karpathy
from pipeline.errors import PipelineError
from pipeline.params.schema import DataParams, Limits

log = logging.getLogger(__name__)

_READERS: dict[str, Callable[[Path], Listing]] = {
    "flickr8k": read_flickr8k,
    "karpathy": read_karpathy,
    "jsonl": read_jsonl,
    "csv": read_csv,
}
# What stands below data.root, told to those who do not have it there.
_EXPECTED = {
    "flickr8k": (
        "Flicker8k_Dataset/, Flickr8k.token.txt and Flickr_8k.{train,dev,test}Images.txt, "
        "or Karpathy's dataset_flickr8k.json and Images/, or Kaggle's Images/ and captions.txt"
    ),
    "karpathy": "dataset.json (or one dataset_*.json) and images/",
    "jsonl": "captions.jsonl and the images that it names",
    "csv": "captions.csv and the images that it names",
}


@dataclass(frozen=True, slots=True)
class DatasetItem:
    """One image of a dataset; its id is its name relative to the image folder."""

    image_id: str
    path: Path
    split: Split
    captions: tuple[str, ...]


def read_dataset(params: DataParams) -> list[DatasetItem]:
    """The images of `params.source` below `params.root`, sorted by id, `params.limits` applied.

    Raises PipelineError naming the file and line, or the image, that is wrong.
    """
    root = Path(params.root)
    _check_root(root, params.source)
    listing = _READERS[params.source](root)
    splits = split_by_hash(listing.captions) if listing.splits is None else listing.splits
    uncaptioned = sorted(image_id for image_id in splits if not listing.captions.get(image_id))
    if uncaptioned:
        raise PipelineError(
            f"{_name_some(uncaptioned)}: no caption in {listing.source} for {len(uncaptioned)} of "
            f"{len(splits)} images; add captions or take the images out of their splits."
        )
    counts = Counter(splits.values())
    found = ", ".join(f"{s} {counts[s]}" for s in SPLITS)
    for split in SPLITS:
        if not counts[split]:
            raise PipelineError(
                f"{listing.source} has no image in the split {split} ({found}); every split needs one."
            )
    log.info(
        "%s lists %d images (%s) with %d captions; images in %s",
        listing.source,
        len(splits),
        found,
        sum(len(listing.captions[image_id]) for image_id in splits),
        listing.folder,
    )
    items = [
        DatasetItem(image_id, listing.folder / image_id, split, tuple(listing.captions[image_id]))
        for image_id, split in sorted(splits.items())
    ]
    items = _first_of_each_split(items, params.limits)
    _check_files(items, listing)
    return items


def _check_root(root: Path, source: str) -> None:
    expected = f"data.source {source} expects {_EXPECTED[source]}"
    if not root.exists():
        fetched = (
            " (Flickr8k can be downloaded too: data.source hub, data.root pipeline/datasets/flickr8k.json)"
            if source == "flickr8k"
            else ""
        )
        raise PipelineError(
            f"data.root is {root}, which does not exist; {expected}; put them there or change "
            f"data.root{fetched}."
        )
    if not root.is_dir() and source != "karpathy":
        raise PipelineError(f"data.root is {root}, which is no folder; {expected} in a folder.")


def _first_of_each_split(items: Sequence[DatasetItem], limits: Limits) -> list[DatasetItem]:
    limit = {"train": limits.train, "dev": limits.dev, "test": limits.test}
    taken: Counter[Split] = Counter()
    kept = []
    for item in items:
        at_most = limit[item.split]
        if at_most is None or taken[item.split] < at_most:
            taken[item.split] += 1
            kept.append(item)
    if len(kept) < len(items):
        log.info("data.limits keeps %d of %d images", len(kept), len(items))
    return kept


def _check_files(items: Sequence[DatasetItem], listing: Listing) -> None:
    """Each image is a file, and one inside the folder: a link may lead anywhere on the machine."""
    absent = [item.image_id for item in items if not _is_file(item.path)]
    if absent:
        raise PipelineError(
            f"{_name_some(absent)}: {len(absent)} of {len(items)} images of {listing.source} "
            f"are not in {listing.folder}; add them, or take them out of the list."
        )
    folder = listing.folder.resolve()
    outside = [item.image_id for item in items if not item.path.resolve().is_relative_to(folder)]
    if outside:
        raise PipelineError(
            f"{_name_some(outside)}: {len(outside)} of {len(items)} images are links that lead out "
            f"of {listing.folder}; put the files there (DVC: `dvc config cache.type copy`)."
        )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long for the file system, a folder that may not be entered
        return False


def _name_some(image_ids: Sequence[str]) -> str:
    return ", ".join(image_ids[:3]) + (", ..." if len(image_ids) > 3 else "")
