"""The regions stage: requests put to test images, answered by encoding the crop on the fly."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline import regions
from pipeline.captioner import Captioner
from pipeline.captions import SceneObject, of_split, read_captions, read_images, vocabulary
from pipeline.errors import PipelineError
from pipeline.images import crop, open_image
from pipeline.metrics.scene_truth import names_object, score_objects
from pipeline.params import GenerateParams, RegionsParams, RuntimeParams
from pipeline.records import JsonObject, write_json, write_jsonl
from pipeline.regions import Region

_JPEG_QUALITY = 90


@dataclass(frozen=True)
class RegionPaths:
    """Where the regions stage reads and writes."""

    checkpoint: Path
    images: Path
    captions: Path
    output: Path
    metrics: Path


def caption_regions(
    paths: RegionPaths,
    params: RegionsParams,
    generate: GenerateParams,
    runtime: RuntimeParams,
) -> dict[str, Any]:
    """Put every request to the first test images; write crops, captions and metrics.

    Returns the content of metrics/regions.json. Where the dataset knows what its images show, it says
    how many captions name the right shape and colour.
    """
    parsed = {request: regions.parse(request) for request in params.requests}
    where = {image.image_id: image for image in read_images(paths.images)}
    listed = read_captions(paths.captions)
    shapes, colors = vocabulary(listed)
    records = of_split(listed, "test")[: params.images]
    absent = [r.image_id for r in records if r.image_id not in where]
    if absent:
        raise PipelineError(f"{paths.images} lacks {absent[0]}; run `dvc repro prepare`.")

    # Listed images were checked by prepare; the limit only has to let them pass.
    largest = max(where[r.image_id].width * where[r.image_id].height for r in records) / 1e6 + 1
    captioner = Captioner.load(paths.checkpoint, runtime.device, runtime.model_cache, max_megapixels=largest)
    asked = [(record, request) for record in records for request in parsed]
    answers = captioner.caption_many(
        [(Path(where[record.image_id].path), parsed[request]) for record, request in asked], generate
    )
    shutil.rmtree(paths.output, ignore_errors=True)
    paths.output.mkdir(parents=True)
    rows: list[JsonObject] = []
    truth: list[tuple[str, SceneObject]] = []
    for (record, request), answer in zip(asked, answers, strict=True):
        name = f"{len(rows):05d}.jpg"
        picture = open_image(Path(where[record.image_id].path), largest)
        crop(picture, answer.region.box).save(paths.output / name, quality=_JPEG_QUALITY)
        row: JsonObject = {
            "image_id": record.image_id,
            "request": request,
            "region": answer.region.name,
            "box": list(answer.region.box),
            "caption": answer.text,
            "crop": name,
        }
        shown = only_object(record.objects, answer.region)
        if shown is not None:
            truth.append((answer.text, shown))
            shape, color = names_object(answer.text, shown.shape, shown.color, shapes=shapes, colors=colors)
            row["object"] = asdict(shown)
            row["correct"] = {"shape": shape, "color": color}
        rows.append(row)
    write_jsonl(paths.output / "regions.jsonl", rows)
    metrics: dict[str, Any] = {"images": len(records), "requests": len(rows)}
    if truth:
        metrics |= score_objects(truth, shapes=shapes, colors=colors).as_dict()
    write_json(paths.metrics, metrics)
    return metrics


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
