"""What the report shows of images: test images with captions, regions with answers to requests.

Pictures travel inside the page, as small JPEGs in data addresses.
"""

import base64
import io
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from pipeline.captions import CaptionRecord, ImageRecord
from pipeline.errors import PipelineError
from pipeline.files.json_files import JsonObject, read_jsonl
from pipeline.images.images import Box, open_image
from pipeline.metrics.cider import cider_d
from pipeline.metrics.tokenizer import split_at_blanks, tokenize

_THUMBNAIL = (320, 320)  # pixels at most
_SEED = 0  # of the random examples: the same images in every report of equal scores


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """Where each image lies, and how large one may be."""

    records: Mapping[str, ImageRecord]
    max_megapixels: float

    def open(self, image_id: str, asked_by: Path) -> Image.Image:
        """The image of that id, with the bytes that were listed; an error names who asked for it."""
        record = self.records.get(image_id)
        if record is None:
            raise PipelineError(
                f"{asked_by} names the image {image_id!r:.80}, which images.jsonl does not have; "
                "run `dvc repro` to make the files fit together."
            )
        return open_image(Path(record.path), self.max_megapixels, record.sha256)


@dataclass(frozen=True, slots=True)
class Picture:
    """A thumbnail, ready for `<img>`."""

    src: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Example:
    """A test image: what the model says, what people said, the CIDEr-D of the one by the other."""

    image_id: str
    picture: Picture
    caption: str
    references: tuple[str, ...]
    score: float  # x 100, as the corpus score


@dataclass(frozen=True, slots=True)
class RegionAnswer:
    """A request put to an image. `truth` and `correct` are empty where the truth is unknown."""

    request: str
    region: str
    outlined: Picture
    crop: Picture
    caption: str
    truth: str
    correct: Mapping[str, bool]


def read_said(predictions: Path, test: Sequence[CaptionRecord]) -> dict[str, str]:
    """The caption of each test image, by image id.

    Raises PipelineError naming the image that `predictions` has no caption for.
    """
    said = {
        _text(row, predictions, number, "image_id"): _text(row, predictions, number, "caption")
        for number, row in read_jsonl(predictions)
    }
    for record in test:
        if record.image_id not in said:
            raise PipelineError(
                f"{predictions} has no caption for the test image {record.image_id!r:.80}; "
                "run `dvc repro evaluate`."
            )
    return {record.image_id: said[record.image_id] for record in test}


def scored_examples(
    predictions: Path, said: Mapping[str, str], test: Sequence[CaptionRecord], files: ImageFiles, count: int
) -> dict[str, list[Example]]:
    """Best, median, worst and random test images by CIDEr-D: `count` in all, none of them twice.

    `predictions` is where `said` was read, for messages.
    """
    scores = cider_d(
        [split_at_blanks(tokenize(said[record.image_id])) for record in test],
        [[split_at_blanks(tokenize(caption)) for caption in record.captions] for record in test],
    )
    scored = sorted(zip(scores, test, strict=True), key=lambda pair: (-pair[0], pair[1].image_id))
    return {
        group: [
            Example(
                image_id=record.image_id,
                picture=_thumbnail(files.open(record.image_id, predictions)),
                caption=said[record.image_id],
                references=record.captions,
                score=100 * score,
            )
            for score, record in (scored[rank] for rank in ranks)
        ]
        for group, ranks in choose_ranks(len(scored), count).items()
    }


def choose_ranks(total: int, count: int) -> dict[str, list[int]]:
    """Ranks (0 is the best) of each group, in order of rank."""
    count = min(count, total)
    best, median, worst, others = ((count + 3 - group) // 4 for group in range(4))
    middle = best + (total - best - worst - median) // 2
    groups = {
        "best": list(range(best)),
        "median": list(range(middle, middle + median)),
        "worst": list(range(total - worst, total)),
    }
    rest = sorted(set(range(total)).difference(*groups.values()))
    return {**groups, "random": sorted(random.Random(_SEED).sample(rest, others))}


def region_answers(folder: Path, files: ImageFiles, count: int) -> dict[str, list[RegionAnswer]]:
    """The answers about the first `count` images of `folder`, by image id."""
    path = folder / "regions.jsonl"
    answers: dict[str, list[RegionAnswer]] = {}
    for number, row in read_jsonl(path):
        image_id = _text(row, path, number, "image_id")
        if image_id not in answers and len(answers) == count:
            continue
        crop = folder / Path(_text(row, path, number, "crop")).name
        shown, correct = row.get("object", {}), row.get("correct", {})
        if not isinstance(shown, dict) or not isinstance(correct, dict):
            raise PipelineError(f"{path}:{number}: object or correct is no object; run `dvc repro regions`.")
        answers.setdefault(image_id, []).append(
            RegionAnswer(
                request=_text(row, path, number, "request"),
                region=_text(row, path, number, "region"),
                outlined=_outlined(files.open(image_id, path), _box(row, path, number)),
                crop=_thumbnail(open_image(crop, files.max_megapixels)),
                caption=_text(row, path, number, "caption"),
                truth=" ".join(str(shown[key]) for key in ("size", "color", "shape") if key in shown),
                correct=correct,
            )
        )
    return answers


def _text(row: JsonObject, path: Path, number: int, key: str) -> str:
    if key not in row:
        raise PipelineError(f"{path}:{number}: {key} is missing; run `dvc repro` to write it anew.")
    value = row[key]
    if not isinstance(value, str):
        raise PipelineError(f"{path}:{number}: {key} is {value!r:.60}, expected text; run `dvc repro`.")
    return value


def _box(row: JsonObject, path: Path, number: int) -> Box:
    """left, top, right, bottom in fractions."""
    value = row.get("box")
    try:
        left, top, right, bottom = map(float, value or ())
    except (TypeError, ValueError, OverflowError) as error:
        raise PipelineError(f"{path}:{number}: box is {value!r:.60}, expected four numbers.") from error
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise PipelineError(f"{path}:{number}: box is {value!r:.60}, no part of an image; run `dvc repro`.")
    return left, top, right, bottom


def _outlined(image: Image.Image, box: Box) -> Picture:
    """A thumbnail with a box on it, light between dark lines so that it shows on any image."""
    image.thumbnail(_THUMBNAIL, Image.Resampling.LANCZOS)
    left, top, right, bottom = (
        round(fraction * side) for fraction, side in zip(box, image.size * 2, strict=True)
    )
    draw = ImageDraw.Draw(image)
    for inset, color in enumerate(("black", "white", "white", "white", "black")):
        edges = (left + inset, top + inset, right - 1 - inset, bottom - 1 - inset)
        if edges[0] <= edges[2] and edges[1] <= edges[3]:
            draw.rectangle(edges, outline=color)
    return _thumbnail(image)


def _thumbnail(image: Image.Image) -> Picture:
    image.thumbnail(_THUMBNAIL, Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=82)
    encoded = base64.b64encode(file.getvalue()).decode()
    return Picture(f"data:image/jpeg;base64,{encoded}", image.width, image.height)
