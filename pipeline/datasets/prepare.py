"""The stage `prepare`: a dataset of any source -> images.jsonl and captions.jsonl.

Every image is decoded once here, so that a damaged file is known before hours of encoding and
training, and all damaged files are known at once.
"""

import logging
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.captions import (
    SPLITS,
    CaptionRecord,
    ImageRecord,
    Split,
    write_captions,
    write_images,
)
from pipeline.datasets.read import Entries, read_dataset
from pipeline.datasets.scenes.draw import draw_scenes
from pipeline.errors import PipelineError, first_few
from pipeline.files.atomic import replace_folder
from pipeline.hardware.progress import track
from pipeline.images.images import describe_image
from pipeline.params.schema import DataParams

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PreparedCounts:
    """How many images and captions each split has."""

    images: dict[Split, int]
    captions: dict[Split, int]

    def __str__(self) -> str:
        splits = ", ".join(f"{split} {count}" for split, count in self.images.items())
        return f"{sum(self.images.values())} images ({splits}), {sum(self.captions.values())} captions"


def prepare(
    params: DataParams, images_path: Path, captions_path: Path, image_folder: Path, workers: int
) -> PreparedCounts:
    """Write the table of the dataset; both files, or none when anything is wrong.

    `image_folder` receives the images that are generated or downloaded; for a dataset that has its own it
    is made, empty, since DVC wants each output of a stage to exist. Raises PipelineError naming what is
    wrong.
    """
    # Drawn pictures replace those of before all at once, at the end: a disk that is full in the middle must
    # not leave new pictures under the digests of the old ones.
    drawn = params.source == "scenes"
    with replace_folder(image_folder) if drawn else nullcontext(image_folder) as folder:
        entries = _entries(params, folder)
        images, bad = [], []
        inspected = _inspect_all(entries, params.max_megapixels, workers)
        for result in track(inspected, "checking images", total=len(entries)):
            if isinstance(result, ImageRecord):
                path = (image_folder / result.image_id).as_posix() if drawn else result.path
                images.append(replace(result, path=path))
            else:
                bad.append(str(result))
        if bad:
            named = first_few(bad, separator="\n  ")
            raise PipelineError(f"{len(bad)} of {len(entries)} images cannot be used:\n  {named}")
        captions = [record for record, _ in entries]
        write_captions(captions_path, captions)
        # Last, so that hardly anything can come between the images' digests and the images.
        write_images(images_path, images)
    return _summarize(images, captions)


def _entries(params: DataParams, image_folder: Path) -> Entries:
    if params.source == "scenes":
        return draw_scenes(params.scenes, params.limits, image_folder)
    if params.source == "hub":
        # The only source that needs huggingface_hub and pyarrow.
        from pipeline.datasets.hub_dataset import unpack_hub_dataset
        from pipeline.datasets.pins import read_pins

        return unpack_hub_dataset(read_pins(Path(params.root, params.pins)), params.limits, image_folder)
    entries = read_dataset(params)
    if image_folder.is_dir() and any(image_folder.iterdir()):
        raise PipelineError(
            f"{image_folder} holds files, but {params.source} brings its own images; "
            "remove the folder, or run `dvc repro prepare`, which does."
        )
    image_folder.mkdir(parents=True, exist_ok=True)
    return entries


def _inspect_all(
    entries: Sequence[tuple[CaptionRecord, Path]], max_megapixels: float, workers: int
) -> Iterator[ImageRecord | PipelineError]:
    """Look into each image, in order. Threads suffice: decoding and hashing release the GIL."""
    threads = max(1, workers)
    window: deque[Future[ImageRecord | PipelineError]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for record, path in entries:
            window.append(pool.submit(_inspect, record.image_id, path, max_megapixels))
            # Few at a time, so that neither a large dataset nor Ctrl-C waits for a long queue.
            if len(window) >= 4 * threads:
                yield window.popleft().result()
        while window:
            yield window.popleft().result()


def _inspect(image_id: str, path: Path, max_megapixels: float) -> ImageRecord | PipelineError:
    """What images.jsonl says of an image; an error is returned, because all are collected."""
    try:
        sha256, width, height = describe_image(path, max_megapixels)
    except PipelineError as error:
        return error
    return ImageRecord(image_id, path.as_posix(), sha256, width, height)


def _summarize(images: Sequence[ImageRecord], captions: Sequence[CaptionRecord]) -> PreparedCounts:
    """Log what the dataset holds, and warn of images that are in several splits."""
    of_image = [len(record.captions) for record in captions]
    words = [len(caption.split()) for record in captions for caption in record.captions]
    widths, heights = [image.width for image in images], [image.height for image in images]
    logger.info(
        "%s captions an image, %s words a caption, images of %s x %s pixels",
        *map(_range, (of_image, words, widths, heights)),
    )
    # Equal bytes in different splits: a test image that was trained on.
    copies: defaultdict[str, list[CaptionRecord]] = defaultdict(list)
    for image, record in zip(images, captions, strict=True):
        copies[image.sha256].append(record)
    leaks = [records for records in copies.values() if len({record.split for record in records}) > 1]
    if leaks:
        first = first_few([f"{record.image_id} ({record.split})" for record in leaks[0]], separator=" = ")
        logger.warning("%d images are in several splits under different names: %s, ...", len(leaks), first)
    counts = Counter(record.split for record in captions)
    totals: Counter[Split] = Counter()
    for record in captions:
        totals[record.split] += len(record.captions)
    return PreparedCounts({s: counts[s] for s in SPLITS}, {s: totals[s] for s in SPLITS})


def _range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low}" if low == high else f"{low} to {high}"
