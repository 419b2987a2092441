"""Read a dataset from a folder: its images, each with its captions, conversations and split."""

import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.captions import SPLITS, CaptionRecord, Split
from pipeline.datasets.flickr8k import find_flickr8k, read_flickr8k
from pipeline.datasets.listing import Listing
from pipeline.datasets.pins import read_pins
from pipeline.datasets.question_readers import llava_file, read_llava, read_vqa, vqa_files
from pipeline.datasets.readers import CSV, JSONL, karpathy_file, read_csv, read_jsonl, read_karpathy
from pipeline.errors import PipelineError, first_few
from pipeline.params.schema import DataParams, Limits

logger = logging.getLogger(__name__)

# Captions and file of each image, sorted by image id.
Entries = list[tuple[CaptionRecord, Path]]


class _Source(NamedTuple):
    """How a source is read, where its file of captions lies (an error if it has none), what it expects."""

    read: Callable[[Path], Listing]
    captions: Callable[[Path], Path]
    expected: str


_SOURCES = {
    "flickr8k": _Source(
        read_flickr8k,
        lambda root: find_flickr8k(root)[0],
        "Flicker8k_Dataset/, Flickr8k.token.txt and Flickr_8k.{train,dev,test}Images.txt, or Karpathy's "
        "dataset_flickr8k.json and Images/, or Kaggle's Images/ and captions.txt; "
        "data.source hub and data.root pipeline/datasets/pinned download it",
    ),
    "karpathy": _Source(read_karpathy, karpathy_file, "dataset.json (or one dataset_*.json) and images/"),
    "jsonl": _Source(read_jsonl, lambda root: root / JSONL, f"{JSONL} and the images that it names"),
    "llava": _Source(read_llava, llava_file, "one JSON file with conversations, and images/"),
    "vqa": _Source(
        read_vqa,
        lambda root: vqa_files(root)[0][0],
        "VQA v2's *_questions.json and *_annotations.json of train2014 and val2014, and COCO's folders "
        "train2014/ and val2014/",
    ),
    "csv": _Source(read_csv, lambda root: root / CSV, f"{CSV} and the images that it names"),
}


def require_source(params: DataParams) -> None:
    """Raise PipelineError unless `params.root` is a folder with the file that `params.source` reads first.

    Neither captions nor images are read: a dataset of any size takes no time.
    """
    root, source = Path(params.root), _SOURCES.get(params.source)
    expected = source.expected if source else "that folder"
    missing = ""
    if not root.is_dir():
        missing = f"data.root is {root}, which {'is not a folder' if root.exists() else 'does not exist'}"
    elif params.source == "hub":
        read_pins(root / params.pins)
    elif source and not (captions := source.captions(root)).exists():
        missing = f"{captions} does not exist"
    if missing:
        raise PipelineError(
            f"{missing}. data.source {params.source} reads {expected}. "
            "Fix: put them there or name another folder (data.root)."
        )


def read_dataset(params: DataParams, hold_out: bool = True) -> Entries:
    """Read the images of `params.source` in `params.root`, within `params.limits`.

    Without `hold_out` all images are of train where the dataset's files name no splits.

    Each image is a file inside the image folder, has a caption or a conversation, and is in one split; no
    split is empty.
    Raises PipelineError naming the file and line, or the image, that is wrong.
    """
    require_source(params)
    listing = _SOURCES[params.source].read(Path(params.root))
    splits = listing.splits()
    if uncaptioned := sorted(i for i in splits if not (listing.captions[i] or listing.conversations[i])):
        raise PipelineError(
            f"{first_few(uncaptioned, 3)}: {listing.source} has no caption for {len(uncaptioned)} of "
            f"{len(splits)} images. Fix: add captions or take the images out of their splits."
        )
    counts = Counter(splits.values())
    sizes = ", ".join(f"{split} {counts[split]}" for split in SPLITS)
    if min(counts[split] for split in SPLITS) == 0:
        raise PipelineError(f"{listing.source} has a split without images ({sizes}); every split needs one.")
    captions = sum(map(len, listing.captions.values()))
    logger.info("%s lists %d images (%s) with %d captions", listing.source, len(splits), sizes, captions)
    if conversations := sum(map(len, listing.conversations.values())):
        logger.info("and %d conversations", conversations)
    if not (hold_out or listing.has_splits):
        splits = dict.fromkeys(splits, "train")
    image_ids = _first_of_each_split(splits, params.limits)
    _require_files(image_ids, listing)
    _warn_of_unlisted(listing)
    return [(listing.record(i, splits[i]), listing.folder / i) for i in image_ids]


def _first_of_each_split(splits: dict[str, Split], limits: Limits) -> list[str]:
    """The ids within the limits, sorted."""
    image_ids = []
    for split in SPLITS:
        in_split = sorted(image_id for image_id in splits if splits[image_id] == split)
        image_ids += in_split[: getattr(limits, split)]
    if len(image_ids) < len(splits):
        logger.info("data.limits keeps %d of %d images", len(image_ids), len(splits))
    return sorted(image_ids)


def _require_files(image_ids: Sequence[str], listing: Listing) -> None:
    """Raise PipelineError unless each image is a file inside the folder: a link may lead anywhere."""
    # Path.is_file raises an error for a name that is too long and for a folder that may not be entered.
    if absent := [i for i in image_ids if not os.path.isfile(listing.folder / i)]:  # noqa: PTH113
        raise PipelineError(
            f"{first_few(absent, 3)}: {len(absent)} of {len(image_ids)} images of {listing.source} "
            f"are not in {listing.folder}. Fix: add them, or take them out of the list."
        )
    folder = listing.folder.resolve()
    if outside := [i for i in image_ids if not (folder / i).resolve().is_relative_to(folder)]:
        raise PipelineError(
            f"{first_few(outside, 3)}: {len(outside)} of {len(image_ids)} images are links that lead out "
            f"of {listing.folder}. Fix: put the files there (DVC: `dvc config cache.type copy`)."
        )


def _warn_of_unlisted(listing: Listing) -> None:
    """Log how many images of the folder are not listed: the file of captions may have lost lines."""
    suffixes = {Path(image_id).suffix.lower() for image_id in listing.captions}
    files = [file for file in listing.folder.rglob("*") if file.suffix.lower() in suffixes]
    names = {file.relative_to(listing.folder).as_posix() for file in files}
    if unlisted := sorted(names - listing.captions.keys()):
        logger.warning(
            "%s: %d images in %s are not used; %s does not list them or gives them no split",
            first_few(unlisted, 3),
            len(unlisted),
            listing.folder,
            listing.source,
        )
