"""Answer the page's two questions: is this an image, and what does the model say of its regions?

Images stay in memory: neither an upload nor a crop becomes a file.
"""

import base64
import io
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from PIL import Image

from pipeline.errors import PipelineError
from pipeline.images.images import crop, image_from_bytes
from pipeline.regions.captioner import RegionCaption
from pipeline.regions.regions import REGIONS, Region, region_from_request, regions_from_request
from pipeline.regions.words import is_question

MAX_REGIONS = 8
_MAX_REQUEST_LENGTH = 300  # characters
_PREVIEW_SIDE = 1280  # pixels of the longer side, at most
_CROP_SIDE = 480

# Takes images with regions, and as `question` what is asked of all of them.
CaptionMany = Callable[..., Sequence[RegionCaption]]


def preview(content: bytes, max_megapixels: float) -> dict[str, Any]:
    """Return an upload's size in pixels, and a small upright copy of it as a data address.

    Raises PipelineError if it is not an image or too large.
    """
    image = _open(content, max_megapixels)
    return {"width": image.width, "height": image.height, "picture": picture(image, _PREVIEW_SIDE)}


def requested_regions(requests: Sequence[str]) -> list[Region]:
    """Return the regions that requests in words name, in their order; one request may name several.

    A question is about the place that it names, or about the full image.
    Raises PipelineError for a request that names no region clearly or is too long, and for no region or
    too many.
    """
    if question_of(requests) is not None:
        with suppress(PipelineError):  # a question need not name a place, and may name several
            return [region_from_request(requests[0])]
        return [REGIONS["full"]]
    # Checked before any request is parsed: thousands fit into one address.
    is_readable = len(requests) <= MAX_REGIONS and all(len(text) <= _MAX_REQUEST_LENGTH for text in requests)
    regions = [region for text in requests for region in regions_from_request(text)] if is_readable else []
    if not 0 < len(regions) <= MAX_REGIONS:
        raise PipelineError(
            f"The page answers 1 to {MAX_REGIONS} regions at once, asked for in up to {_MAX_REQUEST_LENGTH} "
            "characters each."
        )
    return regions


def question_of(requests: Sequence[str]) -> str | None:
    """Return the question of a single request; None if it asks no more than what a place shows."""
    if len(requests) == 1 and len(requests[0]) <= _MAX_REQUEST_LENGTH and is_question(requests[0]):
        return requests[0]
    return None


def answer(
    caption_many: CaptionMany,
    content: bytes,
    regions: Sequence[Region],
    max_megapixels: float,
    question: str | None = None,
) -> list[dict[str, Any]]:
    """Caption regions of an upload in one call of the model: name, box, caption and crop of each.

    With a `question`, the caption is its answer. Raises PipelineError if the upload is not an image or too
    large, or a box in pixels reaches beyond it.
    """
    image = _open(content, max_megapixels)
    parts = [region.within(image.width, image.height) for region in regions]
    captions = caption_many([(image, part) for part in parts], question=question)
    return [
        {
            "region": part.name,
            "box": part.box,
            "question": question,
            "caption": caption.text,
            "finished": caption.finished,
            "picture": picture(crop(image, part.box), _CROP_SIDE),
        }
        for part, caption in zip(parts, captions, strict=True)
    ]


def _open(content: bytes, max_megapixels: float) -> Image.Image:
    return image_from_bytes("this file", content, max_megapixels, limit="the limit in megapixels")


def picture(image: Image.Image, side: int) -> str:
    """Return a JPEG in a data address, no side of it longer than `side` pixels."""
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, format="JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
