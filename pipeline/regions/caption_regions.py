"""The regions stage: requests put to test images, answered by encoding the crop on the fly."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from pipeline.captions import ImageRecord, SceneObject, of_split, read_captions, read_images, vocabulary
from pipeline.errors import PipelineError
from pipeline.evaluation.prediction_cache import PredictionCache
from pipeline.files.atomic import replace_folder
from pipeline.files.json_files import JsonObject, write_json, write_jsonl
from pipeline.files.unchanged_files import UnchangedFiles
from pipeline.hardware.execution import Execution
from pipeline.images.images import crop, open_image
from pipeline.metrics.scene_truth import names_object, score_objects
from pipeline.model.checkpoints import load_checkpoint
from pipeline.params.schema import GenerateParams, Params
from pipeline.regions import regions
from pipeline.regions.captioner import BATCH_SIZE, Captioner
from pipeline.regions.regions import Region
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


def caption_regions(paths: RegionPaths, settings: Params, execution: Execution) -> dict[str, Any]:
    """Put every request to the first test images; write crops, captions and metrics.

    Returns the content of metrics/regions.json. Where the dataset knows what its images show, it says
    how many captions name the right shape and colour.
    """
    params = settings.regions
    parsed = {request: regions.parse(request) for request in params.requests}
    where = {image.image_id: image for image in read_images(paths.images)}
    listed = read_captions(paths.captions)
    shapes, colors = vocabulary(listed)
    records = of_split(listed, "test")[: params.images]
    if not records:
        raise PipelineError(f"{paths.captions} has no image in the split test; run `dvc repro prepare`.")
    absent = [r.image_id for r in records if r.image_id not in where]
    if absent:
        raise PipelineError(f"{paths.images} lacks {absent[0]}; run `dvc repro prepare`.")

    asked = [(record, request) for record in records for request in parsed]
    placed = [(where[r.image_id], _within(where[r.image_id], parsed[request])) for r, request in asked]
    answers = _answers(paths, placed, settings.generate, execution)
    rows: list[JsonObject] = []
    truth: list[tuple[str, SceneObject]] = []
    with replace_folder(paths.output) as folder:
        for (record, request), (region, caption) in zip(asked, answers, strict=True):
            name = f"{len(rows):05d}.jpg"
            picture = _open(where[record.image_id])
            crop(picture, region.box).save(folder / name, quality=_JPEG_QUALITY)
            row: JsonObject = {
                "image_id": record.image_id,
                "request": request,
                "region": region.name,
                "box": list(region.box),
                "caption": caption,
                "crop": name,
            }
            shown = only_object(record.objects, region)
            if shown is not None:
                truth.append((caption, shown))
                shape, color = names_object(caption, shown.shape, shown.color, shapes=shapes, colors=colors)
                row["object"] = asdict(shown)
                row["correct"] = {"shape": shape, "color": color}
            rows.append(row)
        write_jsonl(folder / "regions.jsonl", rows)
    metrics: dict[str, Any] = {"images": len(records), "requests": len(rows)}
    if truth:
        metrics |= score_objects(truth, shapes=shapes, colors=colors).as_dict()
    write_json(paths.metrics, metrics)
    return metrics


def _within(image: ImageRecord, region: Region) -> Region:
    """The region in fractions of a listed image; said of all images before any model is loaded."""
    try:
        return region.within(image.width, image.height)
    except PipelineError as error:
        raise PipelineError(f"regions.requests in params.yaml: {image.image_id}: {error}") from error


def _answers(
    paths: RegionPaths,
    requests: Sequence[tuple[ImageRecord, Region]],
    generate: GenerateParams,
    execution: Execution,
) -> list[tuple[Region, str]]:
    """The region and the caption of each request, all boxes in fractions; those made before are kept."""
    placement = execution.placement
    files = UnchangedFiles([paths.checkpoint])
    load_checkpoint(paths.checkpoint)  # whole, also where every answer is kept
    facts = {
        "code": REGIONS.digests(),
        "checkpoint": files.sha256(paths.checkpoint),
        "requests": [(image.sha256, region.name, region.box) for image, region in requests],
        "generate": asdict(generate),
        "dtype": str(placement.dtype),
    }
    kept = PredictionCache(execution.scratch, facts, len(requests))
    if missing := kept.missing:
        largest = max(_megapixels(image) for image, _ in requests)
        model = Captioner.load(paths.checkpoint, placement, execution.model_cache, largest)
        # What it says is kept under the digest of the file.
        files.require_same(paths.checkpoint)
        for places in kept.gaps(BATCH_SIZE):
            batch = requests[places.start : places.stop]
            made = model.caption_many([(Path(image.path), region) for image, region in batch], generate)
            for image in dict.fromkeys(image for image, _ in batch):
                _open(image)
            kept.add(
                places.start,
                [{"region": a.region.name, "box": list(a.region.box), "caption": a.text} for a in made],
            )
        logger.info("%d of %d requests answered now; the other answers are kept", missing, len(requests))
    return [(Region(row["region"], tuple(row["box"])), row["caption"]) for row in kept.rows]


def _open(image: ImageRecord) -> Image.Image:
    """A listed image; PipelineError when its file holds other bytes by now."""
    return open_image(Path(image.path), _megapixels(image), image.sha256)


def _megapixels(image: ImageRecord) -> float:
    # Listed images were checked by prepare; the limit only has to let them pass.
    return image.width * image.height / 1e6 + 1


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
