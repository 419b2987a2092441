"""The stage `prepare`: a dataset of any source -> images.jsonl, captions.jsonl and a dataset card.

Every image is decoded once here, so that a damaged file is known before hours of encoding and
training, and all damaged files are known at once.
"""

import logging
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
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
from pipeline.datasets.card import dataset_card
from pipeline.datasets.read import read_dataset
from pipeline.datasets.scenes import draw_scenes
from pipeline.errors import PipelineError
from pipeline.files.atomic import replace_folder
from pipeline.files.json_files import write_atomic
from pipeline.hardware.progress import track
from pipeline.images.images import describe_image
from pipeline.params.schema import DataParams

log = logging.getLogger(__name__)

_NAMED = 5  # so many damaged images are named; the rest is counted


@dataclass(frozen=True, slots=True)
class PreparedCounts:
    """How many images and captions each split has."""

    images: dict[Split, int]
    captions: dict[Split, int]

    def __str__(self) -> str:
        splits = ", ".join(f"{split} {count}" for split, count in self.images.items())
        return f"{sum(self.images.values())} images ({splits}), {sum(self.captions.values())} captions"


@dataclass(frozen=True, slots=True)
class _Dataset:
    """Each image's captions and file, sorted by image id, and what the card says of their origin."""

    entries: list[tuple[CaptionRecord, Path]]
    origin: str
    licence: str | None = None


def prepare(
    params: DataParams,
    images_path: Path,
    captions_path: Path,
    card_path: Path,
    image_folder: Path,
    workers: int,
) -> PreparedCounts:
    """Write the table of the dataset and its card; all files, or none when anything is wrong.

    `image_folder` receives the images that are generated or downloaded; for a dataset that has its own it
    is made, empty, since DVC wants each output of a stage to exist. Raises PipelineError naming what is
    wrong.
    """
    with _made_apart(params, image_folder) as folder:
        return _prepare(params, (images_path, captions_path, card_path), image_folder, folder, workers)


@contextmanager
def _made_apart(params: DataParams, image_folder: Path) -> Iterator[Path]:
    """Where images are put meanwhile: drawn pictures replace those of before all at once, at the end.

    A disk that is full in the middle must not leave new pictures under the digests of the old ones.
    """
    if params.source == "scenes":
        with replace_folder(image_folder) as folder:
            yield folder
    else:
        yield image_folder


def _prepare(
    params: DataParams, tables: tuple[Path, Path, Path], image_folder: Path, folder: Path, workers: int
) -> PreparedCounts:
    """Put the images into `folder` and list them as being in `image_folder`."""
    images_path, captions_path, card_path = tables
    dataset = _open(params, folder)
    entries = dataset.entries
    images, bad = [], []
    inspected = _inspect_all(entries, params.max_megapixels, workers)
    for result in track(inspected, "checking images", total=len(entries)):
        if isinstance(result, ImageRecord):
            images.append(_moved(result, folder, image_folder))
        else:
            bad.append(str(result))
    if bad:
        named = "".join(f"\n  {message}" for message in bad[:_NAMED])
        more = f"\n  and {len(bad) - _NAMED} more." if len(bad) > _NAMED else ""
        raise PipelineError(f"{len(bad)} of {len(entries)} images cannot be used:{named}{more}")
    captions = [record for record, _ in entries]
    card = dataset_card(params.source, dataset.origin, images, captions, dataset.licence)
    write_captions(captions_path, captions)
    write_atomic(card_path, card.encode())
    # Last, so that hardly anything can come between the images' digests and the images.
    write_images(images_path, images)
    counts = _count(captions)
    log.info("%s", counts)
    return counts


def _moved(image: ImageRecord, folder: Path, image_folder: Path) -> ImageRecord:
    """The record of an image in `folder` once that is `image_folder`."""
    path = Path(image.path)
    if not path.is_relative_to(folder):
        return image
    return replace(image, path=(image_folder / path.relative_to(folder)).as_posix())


def _open(params: DataParams, image_folder: Path) -> _Dataset:
    if params.source == "scenes":
        seed = params.scenes.seed
        return _Dataset(draw_scenes(params.scenes, image_folder), f"generated scenes, seed {seed}.")
    if params.source == "hub":
        # The only source that needs huggingface_hub and pyarrow.
        from pipeline.datasets.hub_dataset import unpack_hub_dataset
        from pipeline.datasets.pins import read_pins

        pins = read_pins(Path(params.root))
        entries = unpack_hub_dataset(pins, params.limits, image_folder)
        origin = f"https://huggingface.co/datasets/{pins.repository} at the commit {pins.revision}."
        return _Dataset(entries, origin, pins.licence)
    items = read_dataset(params)
    if image_folder.is_dir() and any(image_folder.iterdir()):
        raise PipelineError(
            f"{image_folder} holds files, but {params.source} brings its own images; "
            "remove the folder, or run `dvc repro prepare`, which does."
        )
    image_folder.mkdir(parents=True, exist_ok=True)
    records = [(CaptionRecord(i.image_id, i.split, i.captions), i.path) for i in items]
    return _Dataset(records, f"`{Path(params.root).as_posix()}`.")


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


def _count(records: Sequence[CaptionRecord]) -> PreparedCounts:
    images = Counter(record.split for record in records)
    captions: Counter[Split] = Counter()
    for record in records:
        captions[record.split] += len(record.captions)
    return PreparedCounts({s: images[s] for s in SPLITS}, {s: captions[s] for s in SPLITS})
