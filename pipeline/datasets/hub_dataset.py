"""Download a pinned dataset of the hub and unpack its images into a folder.

Shards stay in the hub's cache; their SHA-256 is compared before they are read. An image is written under a
temporary name and moved into place, and an image with equal bytes is left as it is: an interrupted run
continues, and no file is incomplete.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from pipeline.captions import SPLITS, CaptionRecord, Split
from pipeline.datasets.listing import clean_caption
from pipeline.datasets.parquet import read_rows
from pipeline.datasets.pins import PinnedDataset, Shard
from pipeline.datasets.read import Entries
from pipeline.errors import PipelineError
from pipeline.files.disk_errors import explain_read_errors, explain_write_errors
from pipeline.files.json_files import sha256_of_file
from pipeline.hardware.progress import track
from pipeline.params.schema import Limits
from pipeline.pretrained.hub import HubRepository, download_file, forget

logger = logging.getLogger(__name__)

_SUFFIXES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG\r\n\x1a\n": ".png"}
_TEMPORARY = ".part"


def unpack_hub_dataset(pins: PinnedDataset, limits: Limits, folder: Path) -> Entries:
    """Download the shards that are missing and unpack the first images of each split into `folder`.

    An image's id is its split and its number, `train_00001.jpg`, because the rows have no names. Raises
    PipelineError when something is not available, is not what the pins say, or cannot be written.
    """
    repository = HubRepository(pins.repository, pins.revision, "dataset")
    shards = needed_shards(pins, limits)
    files = [_download(repository, shard) for shard, _ in shards]
    folder.mkdir(parents=True, exist_ok=True)
    for left_over in folder.glob(f".*{_TEMPORARY}"):
        left_over.unlink()
    entries = []
    total = sum(count for _, count in shards)
    numbers: Counter[Split] = Counter()
    for split, image, captions, place in track(_rows(pins, shards, files), "unpacking", "images", total):
        numbers[split] += 1
        suffix = next((s for magic, s in _SUFFIXES.items() if image.startswith(magic)), None)
        if suffix is None:
            raise PipelineError(f"{place} is neither a JPEG nor a PNG image.")
        image_id = f"{split}_{numbers[split]:05d}{suffix}"
        _write_image(folder / image_id, image)
        cleaned = tuple(clean_caption(text, place) for text in captions)
        entries.append((CaptionRecord(image_id, split, cleaned), folder / image_id))
    image_ids = {record.image_id for record, _ in entries}
    if strangers := sorted({file.name for file in folder.iterdir()} - image_ids):
        raise PipelineError(
            f"{folder} holds {len(strangers)} files that are not of this dataset ({strangers[0]}, ...). "
            "Fix: remove the folder, or run `dvc repro prepare`, which removes it."
        )
    logger.info("%s at %.7s: %d images unpacked into %s", repository, pins.revision, len(entries), folder)
    logger.info("license of %s: %s", repository, pins.license)
    if total < (pinned := sum(shard.rows for shard in pins.shards)):
        logger.info("data.limits keeps %d of %d images", total, pinned)
    return sorted(entries, key=lambda entry: entry[0].image_id)


def needed_shards(pins: PinnedDataset, limits: Limits) -> list[tuple[Shard, int]]:
    """List the shards that hold the first images of each split, with the number of rows needed of each."""
    needed = []
    for split in SPLITS:
        limit = getattr(limits, split)
        left = sum(shard.rows for shard in pins.shards) if limit is None else limit
        for shard in pins.shards:
            if shard.split == split and left > 0:
                needed.append((shard, min(shard.rows, left)))
                left -= shard.rows
    return needed


def _download(repository: HubRepository, shard: Shard) -> Path:
    """The shard in the cache, compared with its pin; a damaged one is downloaded a second time."""
    for is_last in (False, True):
        path = download_file(repository, shard.file)
        with explain_read_errors(path):
            if sha256_of_file(path) == shard.sha256:
                return path
        forget(path)
        if not is_last:
            logger.warning("%s of %s is damaged in the cache: downloading it again", shard.file, repository)
    raise PipelineError(
        f"{shard.file} of {repository} is not the file that is pinned: its SHA-256 differs. "
        "Fix: run the command again; if that does not help, use a local copy of the dataset."
    )


def _rows(
    pins: PinnedDataset, shards: list[tuple[Shard, int]], files: list[Path]
) -> Iterator[tuple[Split, bytes, list[object], str]]:
    """Yield split, image, captions and place of each needed row."""
    for (shard, count), file in zip(shards, files, strict=True):
        rows = read_rows(file, pins.image_column, pins.caption_columns, shard.rows)
        for number, (image, captions) in enumerate(islice(rows, count)):
            yield shard.split, image, captions, f"{pins.repository}: {shard.file}, row {number}"


def _write_image(path: Path, content: bytes) -> None:
    """Write an image unless the file holds it."""
    # Without fsync: 8000 of them take minutes, and after a crash of the machine bytes are compared anyway.
    with explain_write_errors(path):
        if not path.is_file() or path.read_bytes() != content:
            temporary = path.with_name(f".{path.name}{_TEMPORARY}")
            temporary.write_bytes(content)
            temporary.replace(path)
