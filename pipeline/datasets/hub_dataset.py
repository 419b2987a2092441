"""A pinned dataset of the hub -> image files in a folder, each with its captions and its split.

Shards stay in the hub's cache; their SHA-256 is compared before they are read. An image is written under a
temporary name and moved into place, and one that is there already with equal bytes is left alone: so an
interrupted run goes on, and no file is ever half there.
"""

import logging
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import constants

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
from pipeline.pretrained.hub import HubRepository, ask_for_file, download_file, forget

logger = logging.getLogger(__name__)

_SUFFIXES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG\r\n\x1a\n": ".png"}
_TEMPORARY = ".part"
_SPARE_BYTES = 200 * 2**20  # the rest of a run, and file systems' own


def unpack_hub_dataset(pins: PinnedDataset, limits: Limits, folder: Path) -> Entries:
    """Download what is missing, check it, and unpack the first images of each split into `folder`.

    An image's id is its split and its place in it, `train_00001.jpg`: the rows are in no other way named.
    Raises PipelineError when something is not available, not what the pins say, or larger than the disk.
    """
    repository = HubRepository(pins.repository, pins.revision, "dataset")
    shards = needed_shards(pins, limits)
    _require_space(repository, shards, folder)
    files = {shard: _verified(repository, shard) for shard, _ in shards}
    folder.mkdir(parents=True, exist_ok=True)
    for left_over in folder.glob(f".*{_TEMPORARY}"):
        left_over.unlink()
    entries = []
    rows = _rows(pins, shards, files)
    total = sum(count for _, count in shards)
    numbers: Counter[Split] = Counter()
    replaced = 0
    for split, image, captions, place in track(rows, "unpacking images", total=total):
        numbers[split] += 1
        suffix = next((s for magic, s in _SUFFIXES.items() if image.startswith(magic)), None)
        if suffix is None:
            raise PipelineError(f"{place} is no JPEG and no PNG image.")
        image_id = f"{split}_{numbers[split]:05d}{suffix}"
        replaced += _write_image(folder / image_id, image)
        cleaned = tuple(clean_caption(text, place) for text in captions)
        entries.append((CaptionRecord(image_id, split, cleaned), folder / image_id))
    _refuse_strangers(folder, {record.image_id for record, _ in entries})
    logger.info("%s at %.7s: %d images unpacked into %s", repository, pins.revision, len(entries), folder)
    logger.info("licence of %s: %s", repository, pins.licence)
    if total < (pinned := sum(shard.rows for shard in pins.shards)):
        logger.info("data.limits keeps %d of %d images", total, pinned)
    if replaced:
        logger.warning("%d images in %s had other bytes than the pinned ones: replaced", replaced, folder)
    return sorted(entries, key=lambda entry: entry[0].image_id)


def needed_shards(pins: PinnedDataset, limits: Limits) -> list[tuple[Shard, int]]:
    """The shards that hold the first images of each split, with how many of their rows are needed."""
    needed = []
    for split in SPLITS:
        left = getattr(limits, split)
        for shard in pins.shards:
            if shard.split != split:
                continue
            rows = shard.rows if left is None else min(shard.rows, left)
            if rows:
                needed.append((shard, rows))
            left = None if left is None else left - rows
    return needed


def _require_space(repository: HubRepository, shards: list[tuple[Shard, int]], folder: Path) -> None:
    """PipelineError unless what is to be downloaded and unpacked fits where it goes."""
    download, images = 0, 0
    for shard, rows in shards:
        file = ask_for_file(repository, shard.file)
        download += 0 if file.is_cached else file.size
        images += file.size * rows // shard.rows  # images do not compress: they are as large in the shard
    # DVC keeps a copy of its outputs. A folder that is being filled was checked when that began.
    unpacked = 0 if folder.is_dir() and any(folder.iterdir()) else 2 * images
    places = {Path(constants.HF_HUB_CACHE): download, folder: unpacked}
    needed: dict[int, int] = defaultdict(int)
    free: dict[int, int] = {}
    for place, size in places.items():
        there = next(p for p in (place.absolute(), *place.absolute().parents) if p.exists())
        device = there.stat().st_dev
        needed[device] += size
        free[device] = shutil.disk_usage(there).free
    for device, size in needed.items():
        if size and size + _SPARE_BYTES > free[device]:
            wanted = " and ".join(f"{_gigabytes(size)} in {place}" for place, size in places.items() if size)
            raise PipelineError(
                f"{repository} needs {wanted} (its files; the images and DVC's copy of them), but only "
                f"{_gigabytes(free[device])} is free there; free some, set HF_HOME to a folder on a larger "
                "disk, or take fewer images (data.limits)."
            )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


def _verified(repository: HubRepository, shard: Shard) -> Path:
    """The shard in the cache, its bytes those that the pins say; a damaged one is downloaded once more."""
    path = download_file(repository, shard.file)
    with explain_read_errors(path):
        found = sha256_of_file(path)
    if found != shard.sha256:
        logger.warning("%s of %s is damaged in the cache: it is downloaded again", shard.file, repository)
        forget(path)
        path = download_file(repository, shard.file)
        with explain_read_errors(path):
            found = sha256_of_file(path)
    if found != shard.sha256:
        raise PipelineError(
            f"{shard.file} of {repository} is not the file that is pinned: its sha256 is {found}, expected "
            f"{shard.sha256}; delete {path} and repeat the command, and if that does not help, use a local "
            "copy of the dataset."
        )
    return path


def _rows(
    pins: PinnedDataset, shards: list[tuple[Shard, int]], files: dict[Shard, Path]
) -> Iterator[tuple[Split, bytes, list[object], str]]:
    """Yield split, image, captions and place of each needed row."""
    for shard, count in shards:
        rows = read_rows(files[shard], pins.image_column, pins.caption_columns, shard.rows)
        for number, (image, captions) in zip(range(count), rows, strict=False):
            yield shard.split, image, captions, f"{pins.repository}: {shard.file}, row {number}"


def _write_image(path: Path, content: bytes) -> bool:
    """Write an image unless it is there, and return whether another one was there."""
    # Without fsync: 8000 of them take minutes, and after a crash of the machine bytes are compared anyway.
    with explain_write_errors(path):
        found = path.read_bytes() if path.is_file() else None
        if found != content:
            temporary = path.with_name(f".{path.name}{_TEMPORARY}")
            temporary.write_bytes(content)
            temporary.replace(path)
    return found not in (None, content)


def _refuse_strangers(folder: Path, image_ids: set[str]) -> None:
    strangers = sorted(file.name for file in folder.iterdir() if file.name not in image_ids)
    if strangers:
        raise PipelineError(
            f"{folder} holds {len(strangers)} files that are not of this dataset ({strangers[0]}, ...); "
            "remove the folder, or run `dvc repro prepare`, which does."
        )
