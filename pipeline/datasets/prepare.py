"""The prepare stage: a dataset of any source becomes images.jsonl and captions.jsonl.

Every image is decoded here once, so that all damaged files are known before hours of encoding and training.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from pipeline.captions import SPLITS, CaptionRecord, ImageRecord, write_captions, write_images
from pipeline.datasets.read import Entries, read_dataset
from pipeline.datasets.scenes.draw import draw_scenes
from pipeline.errors import PipelineError, first_few
from pipeline.files.atomic import replace_folder
from pipeline.files.batched import batched
from pipeline.hardware.progress import track
from pipeline.images.images import describe_image
from pipeline.params.schema import DataParams

logger = logging.getLogger(__name__)


def prepare(
    params: DataParams,
    images_path: Path,
    captions_path: Path,
    image_folder: Path,
    workers: int,
    hold_out: bool = True,
) -> str:
    """Write the table of the dataset: both files, or neither if anything is wrong; return its size.

    `hold_out` is that of `read_dataset`.

    `image_folder` receives the images that are generated or downloaded; for other datasets it is created and
    stays empty, since DVC wants each output of a stage to exist. Raises PipelineError naming what is wrong.
    """
    # New scenes replace the old ones all at once, at the end: if the disk gets full before that, no new
    # picture stands under the digest of an old one.
    drawn = params.source == "scenes"
    with replace_folder(image_folder) if drawn else nullcontext(image_folder) as folder:
        entries = _entries(params, folder, hold_out)
        images, bad = [], []
        inspected = _inspect_all(entries, params.max_megapixels, workers)
        for result in track(inspected, "checking", "images", len(entries)):
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
        # Last, so that little time passes between the digests of the images and the images.
        write_images(images_path, images)
    return _summarize(images, captions)


def _entries(params: DataParams, image_folder: Path, hold_out: bool) -> Entries:
    if params.source == "scenes":
        return draw_scenes(params.scenes, params.limits, image_folder)
    if params.source == "hub":
        # Only this source needs huggingface_hub and pyarrow.
        from pipeline.datasets.hub_dataset import unpack_hub_dataset
        from pipeline.datasets.pins import read_pins

        return unpack_hub_dataset(read_pins(Path(params.root, params.pins)), params.limits, image_folder)
    entries = read_dataset(params, hold_out)
    if image_folder.is_dir() and any(image_folder.iterdir()):
        raise PipelineError(
            f"{image_folder} holds files, but the images of data.source {params.source} are in data.root. "
            "Fix: remove the folder, or run `dvc repro prepare`, which removes it."
        )
    image_folder.mkdir(parents=True, exist_ok=True)
    return entries


def _inspect_all(
    entries: Entries, max_megapixels: float, workers: int
) -> Iterator[ImageRecord | PipelineError]:
    """Decode each image, in order; errors are returned, because all of them are collected."""

    def inspect(entry: tuple[CaptionRecord, Path]) -> ImageRecord | PipelineError:
        record, path = entry
        try:
            return ImageRecord(record.image_id, path.as_posix(), *describe_image(path, max_megapixels))
        except PipelineError as error:
            return error

    # Threads suffice: decoding and hashing release the GIL. In batches, so that Ctrl-C waits for few images.
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for batch in batched(entries, 64):
            yield from pool.map(inspect, batch)


def _summarize(images: Sequence[ImageRecord], captions: Sequence[CaptionRecord]) -> str:
    """Count images and captions, log their sizes, and warn of images that are in several splits."""
    per_image = [len(record.captions) for record in captions]
    words = [len(text.split()) for record in captions for text in record.texts]
    widths, heights = [image.width for image in images], [image.height for image in images]
    logger.info(
        "%s captions an image, %s words a caption, images of %s x %s pixels",
        *(
            f"{min(numbers)}" if min(numbers) == max(numbers) else f"{min(numbers)} to {max(numbers)}"
            for numbers in (per_image, words, widths, heights)
        ),
    )
    # Equal bytes in different splits: a test image that the model was trained on.
    copies: defaultdict[str, list[CaptionRecord]] = defaultdict(list)
    for image, record in zip(images, captions, strict=True):
        copies[image.sha256].append(record)
    leaks = [records for records in copies.values() if len({record.split for record in records}) > 1]
    if leaks:
        first = first_few([f"{record.image_id} ({record.split})" for record in leaks[0]], separator=" = ")
        logger.warning("%d images are in several splits under different names: %s, ...", len(leaks), first)
    counts = Counter(record.split for record in captions)
    splits = ", ".join(f"{split} {counts[split]}" for split in SPLITS)
    conversations = sum(len(record.conversations) for record in captions)
    questions = f", {conversations} conversations" if conversations else ""
    return f"{len(images)} images ({splits}), {sum(per_image)} captions{questions}"
