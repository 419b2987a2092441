"""A caption dataset on disk -> its images, each with its captions and its split.

`read_dataset` is the way in for every source that lies in a folder. It promises that each image is a file
inside the image folder, has a caption, is in one split, and that no split is empty.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.captions import SPLITS, CaptionRecord, Split
from pipeline.datasets.flickr8k import read_flickr8k
from pipeline.datasets.listing import Listing
from pipeline.datasets.readers import read_csv, read_jsonl, read_karpathy
from pipeline.errors import PipelineError, first_few
from pipeline.params.schema import DataParams, Limits

logger = logging.getLogger(__name__)

# Captions of each image, and the image's file; sorted by image id.
Entries = list[tuple[CaptionRecord, Path]]

# The reader of each source, and what it expects below data.root, told to those who do not have it there.
_READERS: dict[str, tuple[Callable[[Path], Listing], str]] = {
    "flickr8k": (
        read_flickr8k,
        "Flicker8k_Dataset/, Flickr8k.token.txt and Flickr_8k.{train,dev,test}Images.txt, "
        "or Karpathy's dataset_flickr8k.json and Images/, or Kaggle's Images/ and captions.txt",
    ),
    "karpathy": (read_karpathy, "dataset.json (or one dataset_*.json) and images/"),
    "jsonl": (read_jsonl, "captions.jsonl and the images that it names"),
    "csv": (read_csv, "captions.csv and the images that it names"),
}


def read_dataset(params: DataParams) -> Entries:
    """The images of `params.source` below `params.root`, `params.limits` applied.

    Raises PipelineError naming the file and line, or the image, that is wrong.
    """
    root = Path(params.root)
    reader, expected = _READERS[params.source]
    _require_root(root, params.source, expected)
    listing = reader(root)
    splits = listing.splits()
    uncaptioned = sorted(image_id for image_id in splits if not listing.captions[image_id])
    if uncaptioned:
        raise PipelineError(
            f"{first_few(uncaptioned, 3)}: no caption in {listing.source} for {len(uncaptioned)} of "
            f"{len(splits)} images; add captions or take the images out of their splits."
        )
    counts = Counter(splits.values())
    found = ", ".join(f"{split} {counts[split]}" for split in SPLITS)
    for split in SPLITS:
        if not counts[split]:
            raise PipelineError(
                f"{listing.source} has no image in the split {split} ({found}); every split needs one."
            )
    total = sum(map(len, listing.captions.values()))
    logger.info("%s lists %d images (%s) with %d captions", listing.source, len(splits), found, total)
    image_ids = _first_of_each_split(splits, params.limits)
    _require_files(image_ids, listing)
    _tell_unlisted(listing)
    return [(CaptionRecord(i, splits[i], tuple(listing.captions[i])), listing.folder / i) for i in image_ids]


def _require_root(root: Path, source: str, expected: str) -> None:
    expected = f"data.source {source} expects {expected}"
    if not root.exists():
        hub = "(Flickr8k can be downloaded too: data.source hub, data.root pipeline/datasets/pinned)"
        raise PipelineError(
            f"data.root is {root}, which does not exist; {expected}; put them there or change data.root"
            f"{f' {hub}' if source == 'flickr8k' else ''}."
        )
    if not root.is_dir():
        raise PipelineError(f"data.root is {root}, which is no folder; {expected} in a folder.")


def _first_of_each_split(splits: dict[str, Split], limits: Limits) -> list[str]:
    taken: Counter[Split] = Counter()
    kept = []
    for image_id, split in sorted(splits.items()):
        at_most = getattr(limits, split)
        if at_most is None or taken[split] < at_most:
            taken[split] += 1
            kept.append(image_id)
    if len(kept) < len(splits):
        logger.info("data.limits keeps %d of %d images", len(kept), len(splits))
    return kept


def _require_files(image_ids: Sequence[str], listing: Listing) -> None:
    """Each image is a file, and one inside the folder: a link may lead anywhere on the machine."""
    absent = [i for i in image_ids if not _is_file(listing.folder / i)]
    if absent:
        raise PipelineError(
            f"{first_few(absent, 3)}: {len(absent)} of {len(image_ids)} images of {listing.source} "
            f"are not in {listing.folder}; add them, or take them out of the list."
        )
    folder = listing.folder.resolve()
    outside = [i for i in image_ids if not (folder / i).resolve().is_relative_to(folder)]
    if outside:
        raise PipelineError(
            f"{first_few(outside, 3)}: {len(outside)} of {len(image_ids)} images are links that lead out "
            f"of {listing.folder}; put the files there (DVC: `dvc config cache.type copy`)."
        )


def _tell_unlisted(listing: Listing) -> None:
    """Say how many images of the folder are in no list: a list may have lost lines."""
    kinds = {Path(image_id).suffix.lower() for image_id in listing.captions}
    files = (file for file in listing.folder.rglob("*") if file.suffix.lower() in kinds)
    unlisted = sorted(
        name
        for file in files
        if (name := file.relative_to(listing.folder).as_posix()) not in listing.captions
    )
    if unlisted:
        logger.warning(
            "%s: %d images in %s are not used, as %s does not list them or gives them no split",
            first_few(unlisted, 3),
            len(unlisted),
            listing.folder,
            listing.source,
        )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long for the file system, a folder that may not be entered
        return False
