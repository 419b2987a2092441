"""The regions stage: requests put to test images, answered by encoding the crop on the fly."""

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import count, groupby, islice
from pathlib import Path
from typing import Any

from PIL import Image

from pipeline.captions import (
    CaptionRecord,
    ImageRecord,
    SceneObject,
    of_split,
    read_captions,
    read_images,
    vocabulary,
)
from pipeline.errors import PipelineError
from pipeline.files.atomic import replace_folder
from pipeline.files.batched import batched
from pipeline.files.json_files import JsonObject, write_json, write_jsonl
from pipeline.files.prediction_cache import PredictionCache
from pipeline.hardware.execution import Execution
from pipeline.images.images import crop, open_image
from pipeline.metrics.scene_truth import names_object, score_objects
from pipeline.model.checkpoints import load_checkpoint
from pipeline.params.schema import GenerateParams, Params, RegionsParams
from pipeline.regions.captioner import BATCH_SIZE, Captioner
from pipeline.regions.regions import Region, region_from_request
from pipeline.result_code import REGIONS

logger = logging.getLogger(__name__)

_JPEG_QUALITY = 90


@dataclass(frozen=True)
class RegionPaths:
    """Where the regions stage reads and writes."""

    checkpoint: Path
    images: Path
    captions: Path
    output: Path
    metrics: Path


@dataclass(frozen=True)
class _Request:
    """A request that is put to a listed image, its region in fractions of the image."""

    text: str
    region: Region
    image: ImageRecord
    record: CaptionRecord


def caption_regions(paths: RegionPaths, settings: Params, execution: Execution) -> dict[str, Any]:
    """Put every request to the first test images; write crops, captions and metrics.

    Returns the content of metrics/regions.json. Where the dataset knows what its images show, it says
    how many captions name the right shape and colour.
    """
    listed = read_captions(paths.captions)
    shapes, colors = vocabulary(listed)
    requests = _requests(paths, settings.regions, of_split(listed, "test")[: settings.regions.images])
    rows: list[JsonObject] = []
    truth: list[tuple[str, SceneObject]] = []
    with replace_folder(paths.output) as folder:
        answers = _answer(paths.checkpoint, requests, folder, settings.generate, execution)
        for request, (region, caption) in zip(requests, answers, strict=True):
            row: JsonObject = {
                "image_id": request.image.image_id,
                "request": request.text,
                "region": region.name,
                "box": list(region.box),
                "caption": caption,
                "crop": _crop_name(len(rows)),
            }
            shown = only_object(request.record.objects, region)
            if shown is not None:
                truth.append((caption, shown))
                shape, color = names_object(caption, shown.shape, shown.color, shapes=shapes, colors=colors)
                row["object"] = asdict(shown)
                row["correct"] = {"shape": shape, "color": color}
            rows.append(row)
        write_jsonl(folder / "regions.jsonl", rows)
    metrics: dict[str, Any] = {
        "images": len({request.image.image_id for request in requests}),
        "requests": len(rows),
    }
    if truth:
        metrics |= score_objects(truth, shapes=shapes, colors=colors).as_dict()
    write_json(paths.metrics, metrics)
    return metrics


def _requests(paths: RegionPaths, params: RegionsParams, records: Sequence[CaptionRecord]) -> list[_Request]:
    """Return all requests about each image, in order.

    Raises PipelineError for images that are missing, a request that names no region, or a box beyond an
    image: before any model is loaded.
    """
    if not records:
        raise PipelineError(f"{paths.captions} has no image in the split test; run `dvc repro prepare`.")
    parsed = {text: region_from_request(text) for text in params.requests}
    images = {image.image_id: image for image in read_images(paths.images)}
    requests = []
    for record in records:
        image = images.get(record.image_id)
        if image is None:
            raise PipelineError(f"{paths.images} lacks {record.image_id}; run `dvc repro prepare`.")
        for text, region in parsed.items():
            try:
                within = region.within(image.width, image.height)
            except PipelineError as error:
                raise PipelineError(f"regions.requests in params.yaml: {image.image_id}: {error}") from error
            requests.append(_Request(text, within, image, record))
    return requests


def _answer(
    path: Path, requests: Sequence[_Request], folder: Path, generate: GenerateParams, execution: Execution
) -> list[tuple[Region, str]]:
    """Save the crop of each request in `folder`; return its region and caption.

    Each image is opened once, with its digest: crop and caption are of the bytes that were listed. Captions
    made before are kept.
    """
    checkpoint = load_checkpoint(path)
    facts = {
        "code": REGIONS.digests(),
        "checkpoint": checkpoint.file.sha256,
        "requests": [(r.image.sha256, r.region.name, r.region.box) for r in requests],
        "generate": asdict(generate),
        "dtype": str(execution.placement.dtype),
    }
    kept = PredictionCache(execution.scratch, facts, len(requests))
    missing = kept.missing
    captioner: Captioner | None = None
    cuts = _save_crops(requests, folder)
    for places in batched(range(len(requests)), BATCH_SIZE):
        # Taken one by one: a batch of decoded photos would fill the memory.
        batch = islice(cuts, len(places))
        if kept.has(places):
            deque(batch, maxlen=0)
        else:
            if captioner is None:
                captioner = Captioner.from_checkpoint(
                    checkpoint, execution.placement, execution.runtime.model_cache
                )
            made = captioner.caption_many(batch, generate)
            kept.add(
                places[0],
                [{"region": a.region.name, "box": list(a.region.box), "caption": a.text} for a in made],
            )
    if missing:
        logger.info("%d of %d requests answered now; the other answers are kept", missing, len(requests))
    checkpoint.file.require_unchanged()
    return [(Region(row["region"], tuple(row["box"])), row["caption"]) for row in kept.rows]


def _save_crops(requests: Sequence[_Request], folder: Path) -> Iterator[tuple[Image.Image, Region]]:
    """Save the crop of each request and yield its picture and region; one picture is open at a time.

    Requests about an image follow each other. Raises PipelineError when a file holds other bytes by now.
    """
    numbers = count()
    for image, asked in groupby(requests, lambda request: request.image):
        # Listed images were checked by prepare; the limit only has to let them pass.
        picture = open_image(Path(image.path), image.width * image.height / 1e6 + 1, image.sha256)
        for request in asked:
            piece = crop(picture, request.region.box)
            piece.save(folder / _crop_name(next(numbers)), quality=_JPEG_QUALITY)
            yield picture, request.region


def _crop_name(number: int) -> str:
    return f"{number:05d}.jpg"


def only_object(objects: Sequence[SceneObject], region: Region) -> SceneObject | None:
    """The object that a region shows whole and alone; None if there is no such object."""
    left, top, right, bottom = region.box
    touching = [
        o for o in objects if o.box[0] < right and o.box[2] > left and o.box[1] < bottom and o.box[3] > top
    ]
    if len(touching) != 1:
        return None
    box = touching[0].box
    inside = box[0] >= left and box[1] >= top and box[2] <= right and box[3] <= bottom
    return touching[0] if inside else None
