"""What the page asks, answered: an uploaded image and requests in, captions beside their crops out.

Knows no web server and no model: whatever captions regions of images will do. Everything stays in
memory; neither the image nor a crop of it is ever a file.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from pipeline.errors import PipelineError
from pipeline.images.images import Box, crop, image_from_bytes
from pipeline.regions import regions
from pipeline.regions.regions import Region

MAX_REGIONS = 8
_MAX_REQUEST_LENGTH = 300  # characters
_PREVIEW_SIDE = 1280  # pixels of the longer side, at most
_CROP_SIDE = 480


class Captioned(Protocol):
    """A caption, and whether the model came to an end by itself."""

    @property
    def text(self) -> str: ...
    @property
    def finished(self) -> bool: ...


class RegionCaptioner(Protocol):
    """What answers need of a `pipeline.Captioner`."""

    def caption_many(self, requests: Sequence[tuple[Image.Image, Region]]) -> Sequence[Captioned]:
        """Captions of regions of images, in their order."""
        ...


@dataclass(frozen=True, slots=True)
class Preview:
    """An image as the model gets it: upright, in RGB; small enough to travel back to the page."""

    width: int  # pixels of the original
    height: int
    picture: str  # a data address


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model says of one region, with what it was shown."""

    region: str
    box: Box
    caption: str
    finished: bool
    picture: str  # the crop, as a data address


def preview(content: bytes, max_megapixels: float) -> Preview:
    """Check an upload and make it small. Raises PipelineError when it is no image or too large."""
    image = _open(content, max_megapixels)
    return Preview(image.width, image.height, _picture(image, _PREVIEW_SIDE))


def requested_regions(requests: Sequence[str]) -> list[Region]:
    """The regions that requests in words name, in their order; one request may name several.

    Raises PipelineError, before any model is asked, for a request that names no region clearly, for one of
    too many words, and for no region or too many.
    """
    # Each names a region or more. Counted before any is parsed: thousands fit into one address.
    _require_few(len(requests))
    for request in requests:
        if len(request) > _MAX_REQUEST_LENGTH:
            raise PipelineError(
                f"the request has {len(request)} characters; allowed: {_MAX_REQUEST_LENGTH}. "
                "Ask for a region in a few words."
            )
    found = [region for request in requests for region in regions.parse_all(request)]
    _require_few(len(found))
    return found


def _require_few(count: int) -> None:
    if not 0 < count <= MAX_REGIONS:
        raise PipelineError(
            f"the app was asked for {count} regions at once; allowed: 1 to {MAX_REGIONS}, each a request=...."
        )


def answer(
    captioner: RegionCaptioner, content: bytes, wanted: Sequence[Region], max_megapixels: float
) -> list[Answer]:
    """Caption regions of an uploaded image, all in one call of the captioner.

    Raises PipelineError when the upload is no image or too large, or a box in pixels reaches beyond it.
    """
    image = _open(content, max_megapixels)
    parts = [region.within(image.width, image.height) for region in wanted]
    captions = captioner.caption_many([(image, part) for part in parts])
    return [
        Answer(
            region=part.name,
            box=part.box,
            caption=caption.text,
            finished=caption.finished,
            picture=_picture(crop(image, part.box), _CROP_SIDE),
        )
        for part, caption in zip(parts, captions, strict=True)
    ]


def _open(content: bytes, max_megapixels: float) -> Image.Image:
    return image_from_bytes("this file", content, max_megapixels, limit="--max-megapixels")


def _picture(image: Image.Image, side: int) -> str:
    """A JPEG in a data address, no side of it longer than `side` pixels."""
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, format="JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
