"""Frozen image encoders behind one protocol: a picture in, features `[P, D_v]` out.

B: batch, S: side of the encoder's input in pixels, P: tokens kept of an image, D_v: their width.

Encoders compute in float32 on every device: they are a small part of the cost, and features then agree
between machines to rounding.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Protocol, Self

import torch
from PIL import Image
from torch import Tensor

from pipeline.errors import PipelineError
from pipeline.files.differences import differences
from pipeline.files.json_files import JsonObject
from pipeline.params.schema import EncoderParams
from pipeline.pretrained.pretrained import weights_digest


@dataclass(frozen=True)
class EncoderSpec:
    """Everything that features depend on. Features of unequal specs must not be mixed."""

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
    def from_model(
        cls, params: EncoderParams, folder: Path, image_size: int, preprocessing: str, features: Tensor
    ) -> Self:
        """Describe a loaded model by its parameters and an example of its features, `[B, P, D_v]`."""
        return cls(
            **asdict(params),
            weights=weights_digest(folder),
            image_size=image_size,
            preprocessing=preprocessing,
            num_tokens=features.shape[1],
            width=features.shape[2],
        )

    def require_same(self, trained: JsonObject, checkpoint: Path) -> None:
        """Raise PipelineError unless a checkpoint was trained with features of this spec."""
        for key, _, _ in differences(asdict(self), trained):
            raise PipelineError(
                f"The encoder {self.name} has changed since {checkpoint} was trained: its {key} differs. "
                "Fix: restore that revision, or train again."
            )

    @property
    def params(self) -> EncoderParams:
        """Return the parameters that load this encoder."""
        return EncoderParams(self.name, self.revision, self.layer, self.tokens, self.grid)


class ImageEncoder(Protocol):
    """A frozen encoder. `preprocess` may run in several threads; `encode` runs where the model is."""

    spec: EncoderSpec

    def preprocess(self, image: Image.Image) -> Tensor:
        """RGB image of any size -> pixels `[3, S, S]`, float32."""
        ...

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels `[B, 3, S, S]` -> features `[B, P, D_v]`, float32 on the encoder's device."""
        ...


def select_tokens(cls: Tensor, patches: Tensor, params: EncoderParams) -> Tensor:
    """Select the tokens that `encoder.tokens` and `encoder.grid` ask for.

    Args:
        cls: `[B, C, D_v]`, the class token first; C is 0 for encoders without one.
        patches: `[B, n * n, D_v]`, row by row; they are averaged onto the grid first.
        params: the section `encoder` of params.yaml.

    Returns:
        `[B, P, D_v]`.
    """
    if "cls" in params.tokens and cls.shape[1] == 0:
        raise PipelineError(
            f"encoder.tokens is {params.tokens}, but {params.name} has no class token. Use patches or mean."
        )
    if params.tokens == "mean":
        return patches.mean(dim=1, keepdim=True)  # [B, 1, D_v]
    if params.tokens == "cls":
        return cls[:, :1]  # [B, 1, D_v]
    if params.grid is not None:
        patches = _pool(patches, params.grid)
    return torch.cat([cls[:, :1], patches], dim=1) if params.tokens == "cls+patches" else patches


def _pool(patches: Tensor, grid: int) -> Tensor:
    """Average `[B, n * n, D]` onto `[B, grid * grid, D]`."""
    side = round(patches.shape[1] ** 0.5)
    if grid > side:
        raise PipelineError(
            f"encoder.grid is {grid}, but the encoder has {side} x {side} patches. Use 1 to {side}."
        )
    square = patches.transpose(1, 2).reshape(len(patches), -1, side, side)  # [B, D, n, n]
    pooled = torch.nn.functional.adaptive_avg_pool2d(square, grid)  # [B, D, grid, grid]
    return pooled.flatten(2).transpose(1, 2)
