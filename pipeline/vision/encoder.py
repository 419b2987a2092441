"""Frozen image encoders behind one protocol: a picture in, features `[P, D_v]` out.

B: batch, S: side of the encoder's input in pixels, P: tokens kept of an image, D_v: their width.

Encoders compute in float32 on every device: they are a small part of the cost, and features then agree
between machines to rounding.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor

from pipeline.errors import PipelineError
from pipeline.files.json_files import digest
from pipeline.params.schema import EncoderParams
from pipeline.pretrained.pretrained import resolve_model, weights_digest
from pipeline.pretrained.wheels import is_wheel
from pipeline.vision.image_processor import ImageProcessor


@dataclass(frozen=True)
class EncoderSpec:
    """Every fact that features depend on. Features of unequal specs must not be mixed."""

    name: str
    revision: str | None
    weights: str  # SHA-256 of the weights
    layer: int
    tokens: str
    grid: int | None
    image_size: int
    preprocessing: str
    num_tokens: int
    width: int

    def as_dict(self) -> dict[str, Any]:
        """The facts as JSON values."""
        return asdict(self)

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over all facts."""
        return digest(self.as_dict())


class ImageEncoder(Protocol):
    """A frozen encoder. `preprocess` may run in several threads; `encode` runs where the model is."""

    spec: EncoderSpec

    def preprocess(self, image: Image.Image) -> Tensor:
        """RGB image of any size -> pixels `[3, S, S]`, float32."""
        ...

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels `[B, 3, S, S]` -> features `[B, P, D_v]`, float32 on the encoder's device."""
        ...


def load_encoder(
    params: EncoderParams, device: torch.device, model_cache: Path | None = None
) -> ImageEncoder:
    """Load the encoder that `params` name. Raises PipelineError when it cannot be had or used so."""
    # By default CUDA's convolutions round their input to ten bits on GPUs that can (TF32).
    torch.backends.cudnn.allow_tf32 = False
    folder = resolve_model(params.name, params.revision, model_cache)
    if is_wheel(params.name):
        from pipeline.vision.efficientnet import EfficientNetEncoder

        return EfficientNetEncoder(params, folder, device)
    return TransformersEncoder(params, folder, device)


class TransformersEncoder:
    """A vision transformer of the `transformers` library; CLIP's is the reference.

    The hidden states of `layer` are `[CLS, patches...]`; `tokens` says which of them are kept.
    """

    def __init__(self, params: EncoderParams, folder: Path, device: torch.device) -> None:
        from transformers import AutoConfig, AutoModel, CLIPVisionModel

        try:
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            is_clip = config.model_type in ("clip", "clip_vision_model")
            model_class = CLIPVisionModel if is_clip else AutoModel
            self._processor = ImageProcessor(folder)
            self._model = model_class.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
            )
        except (OSError, ValueError) as error:
            raise PipelineError(
                f"{params.name} cannot be loaded as an image encoder: {' '.join(str(error).split())}"
            ) from error
        self._model.requires_grad_(False).eval().to(device)
        self._device = device
        self._layer = params.layer
        self._tokens = params.tokens
        self._grid = params.grid
        vision = self._model.config
        if not hasattr(vision, "patch_size") or not hasattr(vision, "image_size"):
            raise PipelineError(f"{params.name} is no vision transformer with patches of one size.")
        layers = vision.num_hidden_layers
        if not -layers - 1 <= params.layer <= layers:
            raise PipelineError(
                f"encoder.layer is {params.layer}, but {params.name} has {layers} layers; allowed: "
                f"{-layers - 1} to {layers}."
            )
        self._side = vision.image_size // vision.patch_size
        with torch.inference_mode():
            blank = torch.zeros(1, 3, vision.image_size, vision.image_size, device=device)
            _, num_tokens, width = self.encode(blank).shape
        self.spec = EncoderSpec(
            name=params.name,
            revision=params.revision,
            weights=weights_digest(folder),
            layer=params.layer,
            tokens=params.tokens,
            grid=params.grid,
            image_size=vision.image_size,
            preprocessing=digest(self._processor.facts()),
            num_tokens=num_tokens,
            width=width,
        )

    def preprocess(self, image: Image.Image) -> Tensor:
        """RGB image -> pixels `[3, S, S]`, as the model's own processor makes them."""
        return self._processor(image)

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels `[B, 3, S, S]` -> features `[B, P, D_v]`."""
        output = self._model(
            pixel_values=pixels.to(self._device, non_blocking=True), output_hidden_states=True
        )
        hidden: Tensor = output.hidden_states[self._layer]  # [B, 1 + patches, D_v]
        prefix = hidden.shape[1] - self._side**2
        return select_tokens(hidden[:, :prefix], hidden[:, prefix:], self._tokens, self._grid)


def select_tokens(cls: Tensor, patches: Tensor, tokens: str, grid: int | None) -> Tensor:
    """Keep what `encoder.tokens` and `encoder.grid` ask for.

    Args:
        cls: `[B, C, D_v]`; C is 0 for encoders without a class token, otherwise the first is the class's.
        patches: `[B, n * n, D_v]`, row by row.
        tokens: `patches`, `cls`, `cls+patches` or `mean`.
        grid: average the patches onto `grid x grid` first.

    Returns:
        `[B, P, D_v]`.
    """
    if "cls" in tokens and cls.shape[1] == 0:
        raise PipelineError(
            f"encoder.tokens is {tokens}, but this encoder has no class token; use patches or mean."
        )
    if tokens == "mean":
        return patches.mean(dim=1, keepdim=True)  # [B, 1, D_v]
    if tokens == "cls":
        return cls[:, :1]  # [B, 1, D_v]
    if grid is not None:
        patches = _pool(patches, grid)
    return torch.cat([cls[:, :1], patches], dim=1) if tokens == "cls+patches" else patches


def _pool(patches: Tensor, grid: int) -> Tensor:
    """Average `[B, n * n, D]` onto `[B, grid * grid, D]`."""
    side = round(patches.shape[1] ** 0.5)
    if grid > side:
        raise PipelineError(f"encoder.grid is {grid}, but the encoder has only {side} x {side} patches.")
    square = patches.transpose(1, 2).reshape(len(patches), -1, side, side)  # [B, D, n, n]
    pooled = torch.nn.functional.adaptive_avg_pool2d(square, grid)  # [B, D, grid, grid]
    return pooled.flatten(2).transpose(1, 2)
