"""Use a trained model: images, or regions of images, in; captions out.

from pipeline import Captioner

captioner = Captioner.load("data/best.safetensors")
print(captioner.caption("photo.jpg").text)
print(captioner.ask("Describe the top-right corner", "photo.jpg").text)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pipeline import regions
from pipeline.device import choose_placement
from pipeline.encoder import ImageEncoder, load_encoder
from pipeline.errors import PipelineError
from pipeline.images import crop, image_from_array, image_from_pil, open_image
from pipeline.params import EncoderParams, GenerateParams
from pipeline.regions import Region
from pipeline.trained_model import TrainedModel

ImageLike = str | Path | Image.Image | NDArray[np.uint8]
Box = tuple[float, float, float, float]

DEFAULT_GENERATION = GenerateParams(beams=3, max_new_tokens=40, length_penalty=1.0, no_repeat_ngram_size=0)
_BATCH_SIZE = 32


@dataclass(frozen=True)
class RegionCaption:
    """What the model says of a region, and whether it came to an end by itself."""

    text: str
    region: Region
    finished: bool


class Captioner:
    """A frozen encoder, a trained projector and a frozen language model, ready to caption."""

    def __init__(self, encoder: ImageEncoder, model: TrainedModel, max_megapixels: float) -> None:
        self._encoder = encoder
        self._model = model
        self._max_megapixels = max_megapixels

    @classmethod
    def load(
        cls,
        checkpoint: str | Path = "data/best.safetensors",
        device: str = "auto",
        model_cache: str | Path | None = None,
        max_megapixels: float = 50.0,
    ) -> Self:
        """Load a checkpoint and the frozen models that it names; larger image files will be refused.

        Raises PipelineError when they cannot be had or are not those it was trained with.
        """
        placement = choose_placement(device)
        cache = None if model_cache is None else Path(model_cache)
        model = TrainedModel.load(Path(checkpoint), placement, cache)
        facts = model.info.encoder
        params = EncoderParams(
            facts["name"], facts["revision"], facts["layer"], facts["tokens"], facts["grid"]
        )
        encoder = load_encoder(params, placement.device, cache)
        for key, found in encoder.spec.as_dict().items():
            if found != facts[key]:
                raise PipelineError(
                    f"{checkpoint} was trained with encoder {key} {facts[key]!r}, but {params.name} now "
                    f"has {found!r}; train anew or restore that revision."
                )
        return cls(encoder, model, max_megapixels)

    def caption(
        self,
        image: ImageLike,
        region: str | Box | None = None,
        generate: GenerateParams = DEFAULT_GENERATION,
    ) -> RegionCaption:
        """Caption an image: a path, a PIL image, or an array `[H, W]`, `[H, W, 3]` or `[H, W, 4]`, uint8.

        Args:
            image: what to caption.
            region: a name ("top-left") or a box (left, top, right, bottom in fractions of the image).
            generate: how to decode.

        Raises:
            PipelineError: for an image that cannot be read or a region that is none.
        """
        return self.caption_many([(image, _to_region(region))], generate)[0]

    def ask(
        self, request: str, image: ImageLike, generate: GenerateParams = DEFAULT_GENERATION
    ) -> RegionCaption:
        """Caption the region that a request in words names, e.g. "Describe the top-right corner"."""
        return self.caption_many([(image, regions.parse(request))], generate)[0]

    def caption_many(
        self,
        requests: Sequence[tuple[ImageLike, Region]],
        generate: GenerateParams = DEFAULT_GENERATION,
    ) -> list[RegionCaption]:
        """Caption regions of many images, in batches; image files are opened when their turn comes."""
        captions: list[RegionCaption] = []
        for start in range(0, len(requests), _BATCH_SIZE):
            batch = requests[start : start + _BATCH_SIZE]
            # A crop goes through the encoder as if it were an image of its own.
            crops = [crop(self._open(image), region.box) for image, region in batch]
            pixels = torch.stack([self._encoder.preprocess(c) for c in crops])  # [B, 3, S, S]
            # Rounded as the stored features are, which the projector was trained on.
            features = self._encoder.encode(pixels).half()  # [B, P, D_v]
            for (_, region), one in zip(
                batch, self._model.caption(features, generate, _BATCH_SIZE), strict=True
            ):
                captions.append(RegionCaption(one.text, region, one.finished))
        return captions

    def _open(self, image: ImageLike) -> Image.Image:
        if isinstance(image, Image.Image):
            return image_from_pil(image)
        if isinstance(image, np.ndarray):
            return image_from_array(image)
        return open_image(Path(image), self._max_megapixels)


def _to_region(region: str | Box | None) -> Region:
    if region is None:
        return regions.REGIONS["full"]
    if isinstance(region, str):
        return regions.parse(region)
    return regions.parse(",".join(str(value) for value in region))
