"""What the report shows of images: test images with captions, regions with answers to requests.

Pictures travel inside the page, as small JPEGs in data addresses.
"""

import base64
import io
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from jinja2 import TemplateError
from PIL import Image, ImageDraw

from pipeline.captions import CaptionRecord, ImageRecord
from pipeline.errors import PipelineError
from pipeline.files.json_files import JsonObject, read_jsonl
from pipeline.images.images import Box, open_image
from pipeline.metrics.cider import cider_d
from pipeline.metrics.scores import ANSWERS
from pipeline.metrics.tokenizer import caption_words

_THUMBNAIL = (320, 320)  # pixels at most
_SEED = 0  # of the random examples: the same images in every report of equal scores


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """Where each image lies, and how large an image may be."""

    records: Mapping[str, ImageRecord]
    max_megapixels: float

    def open(self, image_id: str) -> Image.Image:
        """Open the image of that id, with the bytes that were listed; KeyError for an unknown id."""
        record = self.records[image_id]
        return open_image(Path(record.path), self.max_megapixels, record.sha256)


@dataclass(frozen=True, slots=True)
class Picture:
    """A thumbnail, ready for `<img>`."""

    src: str
    width: int
    height: int


@contextmanager
def explain_content_errors(path: Path) -> Iterator[None]:
    """Turn what is missing or malformed in a file of the run into a PipelineError that names the file."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, TemplateError) as error:
        reason = " ".join(str(error).split())  # one line, whatever a damaged file contains
        raise PipelineError(
            f"{path} does not fit the other files of the run ({type(error).__name__} {reason}). "
            "Fix: run `dvc repro`."
        ) from error


def scored_examples(
    predictions: Path, test: Sequence[CaptionRecord], files: ImageFiles, count: int
) -> dict[str, list[JsonObject]]:
    """Return the best, median, worst and random test images by CIDEr-D: `count` in all, none of them twice.

    Each has its `image_id`, `picture`, `caption`, `references` and `score` (x 100, as the corpus score), the
    `question` if the references answer one, and `answers` to questions.
    `predictions` has the caption of each image of `test`; else PipelineError names it.
    """
    answers: dict[str, list[JsonObject]] = {}
    path = predictions.with_name(ANSWERS)
    if path.exists():  # only where questions were asked
        with explain_content_errors(path):
            for _, row in read_jsonl(path):
                answers.setdefault(row["image_id"], []).append(row)
    with explain_content_errors(predictions):
        captions = {row["image_id"]: row["caption"] for _, row in read_jsonl(predictions)}
        scores = cider_d(
            [caption_words(captions[record.image_id]) for record in test],
            [[caption_words(caption) for caption in record.texts] for record in test],
        )
        scored = sorted(zip(scores, test, strict=True), key=lambda pair: (-pair[0], pair[1].image_id))
        return {
            group: [
                {
                    "image_id": record.image_id,
                    "picture": thumbnail(files.open(record.image_id)),
                    "caption": captions[record.image_id],
                    "references": record.texts,
                    "question": record.question,
                    "answers": answers.get(record.image_id, []),
                    "score": 100 * score,
                }
                for score, record in (scored[rank] for rank in ranks)
            ]
            for group, ranks in choose_ranks(len(scored), count).items()
        }


def choose_ranks(total: int, count: int) -> dict[str, list[int]]:
    """Return the ranks (0 is the best) of each group, in order of rank."""
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


def region_answers(folder: Path, files: ImageFiles, count: int) -> dict[str, list[JsonObject]]:
    """Return the answers about the first `count` images of `folder`, by image id.

    Each has what regions.jsonl says of it, its `crop` as a picture, and the image as `outlined`. Raises
    PipelineError naming regions.jsonl where an answer in it is incomplete.
    """
    path = folder / "regions.jsonl"
    answers: dict[str, list[JsonObject]] = {}
    with explain_content_errors(path):
        for _, row in read_jsonl(path):
            image_id = row["image_id"]
            if image_id not in answers and len(answers) == count:
                continue
            crop = open_image(folder / Path(row["crop"]).name, files.max_megapixels)
            left, top, right, bottom = map(float, row["box"])
            outlined = _outline(files.open(image_id), (left, top, right, bottom))
            answers.setdefault(image_id, []).append({**row, "crop": thumbnail(crop), "outlined": outlined})
    return answers


def _outline(image: Image.Image, box: Box) -> Picture:
    """Return a thumbnail with a box on it, light between dark lines so that it shows on any image."""
    image.thumbnail(_THUMBNAIL, Image.Resampling.LANCZOS)
    left, top, right, bottom = (
        round(fraction * side) for fraction, side in zip(box, image.size * 2, strict=True)
    )
    draw = ImageDraw.Draw(image)
    for inset, color in enumerate(("black", "white", "white", "white", "black")):
        edges = (left + inset, top + inset, right - 1 - inset, bottom - 1 - inset)
        if edges[0] <= edges[2] and edges[1] <= edges[3]:
            draw.rectangle(edges, outline=color)
    return thumbnail(image)


def thumbnail(image: Image.Image) -> Picture:
    """Shrink an image, and return it as a picture."""
    image.thumbnail(_THUMBNAIL, Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=82)
    encoded = base64.b64encode(file.getvalue()).decode()
    return Picture(f"data:image/jpeg;base64,{encoded}", image.width, image.height)
