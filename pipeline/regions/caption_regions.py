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
    read_captions,
    read_images,
    select_split,
    vocabulary,
)
from pipeline.errors import PipelineError
from pipeline.files.atomic import replace_folder
from pipeline.files.batched import batched
from pipeline.files.json_files import JsonObject, sha256_of_file, write_json, write_jsonl
from pipeline.files.prediction_cache import PredictionCache
from pipeline.hardware.execution import Execution
from pipeline.hardware.progress import bar
from pipeline.images.images import crop, open_image
from pipeline.metrics.scene_truth import judge_caption, score_judgments
from pipeline.model.checkpoints import load_checkpoint, memory_of_checkpoint
from pipeline.params.schema import GenerateParams, Params, RegionsParams
from pipeline.regions.captioner import BATCH_SIZE, Captioner
from pipeline.regions.regions import Region, region_from_request
from pipeline.result_code import REGIONS
from pipeline.retrieval.memory import MEMORY_NAME

logger = logging.getLogger(__name__)

_JPEG_QUALITY = 90


@dataclass(frozen=True)
class RegionPaths:
    """Where the regions stage reads and writes."""

    checkpoint: Path = Path("data/best.safetensors")
    images: Path = Path("data/images.jsonl")
    captions: Path = Path("data/captions.jsonl")
    output: Path = Path("data/regions")
    metrics: Path = Path("metrics/regions.json")


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
    how many captions name the right shape, color and place, and how many name nothing where nothing is.
    """
    listed = read_captions(paths.captions)
    shapes, colors = vocabulary(listed)
    requests = _requests(paths, settings.regions, select_split(listed, "test")[: settings.regions.images])
    rows: list[JsonObject] = []
    judgments: list[dict[str, bool]] = []
    with replace_folder(paths.output) as folder:
        answers = _answer(paths.checkpoint, requests, folder, settings.generate, execution)
        for request, answer in zip(requests, answers, strict=True):
            caption = answer["caption"]
            row = {
                "image_id": request.image.image_id,
                "request": request.text,
                **answer,
                "crop": _crop_name(len(rows)),
            }
            objects, region = request.record.objects, request.region
            item = only_object(objects, region)
            # Several objects, or a part of one: no caption would be the right one.
            if shapes and (item or not visible_objects(objects, region)):
                judgment = judge_caption(caption, item, shapes=shapes, colors=colors, region=region.box)
                judgments.append(judgment)
                row |= {"object": asdict(item)} if item else {}
                row["correct"] = judgment
            rows.append(row)
        write_jsonl(folder / "regions.jsonl", rows)
    images = {request.image.image_id for request in requests}
    metrics = {"images": len(images), "requests": len(rows), **score_judgments(judgments)}
    write_json(paths.metrics, metrics)
    return metrics


def _requests(paths: RegionPaths, params: RegionsParams, records: Sequence[CaptionRecord]) -> list[_Request]:
    """Return all requests about each image, in order.

    Raises PipelineError, before any model is loaded, for a request that names no region and a box beyond an
    image.
    """
    if not records:
        raise PipelineError(f"{paths.captions} has no image in the split test. Fix: run `dvc repro prepare`.")
    regions = {text: region_from_request(text) for text in params.requests}
    images = {image.image_id: image for image in read_images(paths.images)}
    requests = []
    for record in records:
        image = images[record.image_id]
        for text, region in regions.items():
            try:
                part = region.within(image.width, image.height)
            except PipelineError as error:
                raise PipelineError(f"regions.requests in params.yaml: {image.image_id}: {error}") from error
            requests.append(_Request(text, part, image, record))
    return requests


def _answer(
    path: Path, requests: Sequence[_Request], folder: Path, generate: GenerateParams, execution: Execution
) -> list[JsonObject]:
    """Save the crop of each request in `folder`; return its region, box and caption.

    Each image is opened once, with its digest: crop and caption are of the bytes that were listed. Captions
    of an earlier run are kept.
    """
    checkpoint = load_checkpoint(path)
    memory = path.with_name(MEMORY_NAME)
    uses_memory = bool(checkpoint.info.memory or generate.consensus)
    inputs = {
        "code": REGIONS.digests(),
        "checkpoint": checkpoint.file.sha256,
        "requests": [(r.image.sha256, r.region.name, r.region.box) for r in requests],
        "generate": asdict(generate),
        "dtype": str(execution.placement.dtype),
        "memory": sha256_of_file(memory) if uses_memory and memory.exists() else None,
    }
    cache = PredictionCache(execution.scratch, inputs, len(requests))
    missing = cache.missing
    captioner: Captioner | None = None
    crops = _save_crops(requests, folder)
    with bar("regions", "requests", missing) as progress:
        for places in batched(range(len(requests)), BATCH_SIZE):
            # Taken one by one: a batch of decoded photos would fill the memory.
            batch = islice(crops, len(places))
            if cache.has(places):
                deque(batch, maxlen=0)
                continue
            if captioner is None:
                captions = memory_of_checkpoint(checkpoint, memory) if uses_memory else None
                placement, model_cache = execution.placement, execution.runtime.model_cache
                captioner = Captioner.from_checkpoint(checkpoint, placement, model_cache, memory=captions)
            answers = captioner.caption_many(batch, generate)
            rows = [{"region": a.region.name, "box": [*a.region.box], "caption": a.text} for a in answers]
            cache.add(places[0], rows)
            progress.update(len(places))
    if missing:
        logger.info("requests answered now: %d, in earlier runs: %d", missing, len(requests) - missing)
    checkpoint.file.require_unchanged()
    return cache.rows


def _save_crops(requests: Sequence[_Request], folder: Path) -> Iterator[tuple[Image.Image, Region]]:
    """Save the crop of each request and yield its picture and region; one picture is open at a time.

    Requests about an image follow each other. Raises PipelineError for a file that has changed.
    """
    numbers = count()
    for image, group in groupby(requests, lambda request: request.image):
        # Listed images were checked by prepare; the limit only has to let them pass.
        picture = open_image(Path(image.path), image.width * image.height / 1e6 + 1, image.sha256)
        for request in group:
            piece = crop(picture, request.region.box)
            piece.save(folder / _crop_name(next(numbers)), quality=_JPEG_QUALITY)
            yield picture, request.region


def _crop_name(number: int) -> str:
    return f"{number:05d}.jpg"


def visible_objects(objects: Sequence[SceneObject], region: Region) -> list[SceneObject]:
    """Return the objects that a region shows, or a part of them."""
    left, top, right, bottom = region.box
    return [
        o for o in objects if o.box[0] < right and o.box[2] > left and o.box[1] < bottom and o.box[3] > top
    ]


def only_object(objects: Sequence[SceneObject], region: Region) -> SceneObject | None:
    """Return the object that a region shows whole and alone, if there is one."""
    visible = visible_objects(objects, region)
    if len(visible) != 1:
        return None
    left, top, right, bottom = region.box
    x0, y0, x1, y1 = visible[0].box
    return visible[0] if left <= x0 and top <= y0 and x1 <= right and y1 <= bottom else None
