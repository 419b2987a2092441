"""Frozen image encoders behind one protocol: a picture in, features `[P, D_v]` out.

B: batch, S: side of the encoder's input in pixels, P: tokens kept of an image, D_v: their width.

Encoders compute in float32 on every device: they are a small part of the cost, and features then agree
between machines to rounding.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import torch
from PIL import Image
from torch import Tensor

from pipeline.errors import PipelineError
from pipeline.files.json_files import digest
from pipeline.params.schema import EncoderParams
from pipeline.pretrained.pretrained import weights_digest


@dataclass(frozen=True)
class EncoderSpec:
    """Every fact that features depend on. Features of unequal specs must not be mixed."""

    name: str
    revision: str | None
    weights: str  # SHA-256 of the weights
    layer: int
    tokens: Literal["patches", "cls", "cls+patches", "mean"]
    grid: int | None
    image_size: int
    preprocessing: str
    num_tokens: int
    width: int

    @classmethod
    def of_model(
        cls, params: EncoderParams, folder: Path, image_size: int, preprocessing: str, features: Tensor
    ) -> Self:
        """The facts of a loaded model, which gives such `features` `[B, P, D_v]`."""
        _, num_tokens, width = features.shape
        return cls(
            params.name,
            params.revision,
            weights_digest(folder),
            params.layer,
            params.tokens,
            params.grid,
            image_size,
            preprocessing,
            num_tokens,
            width,
        )

    def as_dict(self) -> dict[str, Any]:
        """The facts as JSON values."""
        return asdict(self)

    @property
    def params(self) -> EncoderParams:
        """What such an encoder is loaded by."""
        return EncoderParams(self.name, self.revision, self.layer, self.tokens, self.grid)

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
