"""The trained projector as two plain linear layers, and LLaVA's file of it.

D_v: width of the encoder, H: hidden width of the projector, D_l: width of the language model.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pipeline.errors import PipelineError
from pipeline.export.folder import new_folder, write_weights
from pipeline.export.model_card import CardFacts, model_card, public_name
from pipeline.files.json_files import JsonObject, write_atomic, write_json
from pipeline.model.checkpoints import CheckpointInfo, load_checkpoint
from pipeline.model.projector import Projector

# LLaVA's words for encoder.tokens. It has none for the others; its own loader then says so.
_SELECT_FEATURE = {"patches": "patch", "cls+patches": "cls_patch"}


@dataclass(frozen=True)
class LinearLayers:
    """Linear, GELU, Linear, float32: `linear_2(gelu(linear_1(features)))` is the projector's output."""

    weight_1: Tensor  # [H, D_v]
    bias_1: Tensor  # [H]
    weight_2: Tensor  # [D_l, H]
    bias_2: Tensor  # [D_l]


def fold_projector(projector: Projector) -> LinearLayers:
    """The projector with its standardisation folded into the first layer.

    W ((x - mean) * scale) + b = (scale * W) x + (b - scale * W mean), computed in float64. A hidden width
    H below D_l is filled up with units that are always zero (gelu(0) = 0), which changes nothing: LLaVA's
    projectors have H = D_l. A larger H stays as it is.
    """
    state = {key: value.double() for key, value in projector.state_dict().items()}
    weight_1 = state["hidden.weight"] * state["scale"]  # [H, D_v]
    bias_1 = state["hidden.bias"] - weight_1 @ state["mean"]  # [H]
    missing = max(projector.output.out_features - projector.hidden.out_features, 0)
    pad = torch.nn.functional.pad
    return LinearLayers(
        pad(weight_1, (0, 0, 0, missing)).float(),
        pad(bias_1, (0, missing)).float(),
        pad(state["output.weight"], (0, missing)).float(),
        state["output.bias"].float(),
    )


def export_projector(
    checkpoint: Path, out: Path, evaluation: Path | None = None, dataset: str | None = None
) -> Path:
    """Write a checkpoint's projector as LLaVA's `mm_projector.safetensors`, for any encoder.

    Args:
        checkpoint: what training saved.
        out: the folder to make; it must not exist or be empty.
        evaluation: metrics/evaluate.json, for the model card's scores.
        dataset: `data.source` of the run, or of a dataset of the hub its repository, for the model card.

    Returns:
        `out`, with `mm_projector.safetensors`, `config.json` and `README.md`.

    Raises:
        PipelineError: for an unreadable checkpoint, a folder in use, or scores of another checkpoint.
    """
    with new_folder(out) as folder:
        trained = load_checkpoint(checkpoint)
        projector, info = trained.projector, trained.info
        if info.lora:
            raise PipelineError(
                f"{checkpoint} was trained with adapters in the language model (lora.rank "
                f"{info.lora['rank']}): its projector alone is of no use; export the whole model instead."
            )
        card = model_card(CardFacts.read("projector", info, evaluation, dataset))
        layers = fold_projector(projector)
        write_weights(
            folder / "mm_projector.safetensors",
            {
                "model.mm_projector.0.weight": layers.weight_1,
                "model.mm_projector.0.bias": layers.bias_1,
                "model.mm_projector.2.weight": layers.weight_2,
                "model.mm_projector.2.bias": layers.bias_2,
            },
        )
        write_json(folder / "config.json", _llava_config(info, layers))
        write_atomic(folder / "README.md", card.encode())
    return out


def _llava_config(info: CheckpointInfo, layers: LinearLayers) -> JsonObject:
    encoder = info.encoder
    return {
        "mm_projector_type": "mlp2x_gelu",
        "mm_hidden_size": layers.weight_1.shape[1],
        "hidden_size": layers.weight_2.shape[0],
        # LLaVA's builder knows no such key: its own two layers are as wide as the language model.
        "mm_projector_hidden_size": layers.weight_1.shape[0],
        "mm_vision_tower": public_name(encoder["name"]),
        "mm_vision_select_layer": encoder["layer"],
        "mm_vision_select_feature": _select_feature(encoder["tokens"], encoder["grid"]),
        "mm_use_im_start_end": False,
        "mm_use_im_patch_token": False,
        "image_aspect_ratio": "square",
        # Beyond LLaVA's keys: what else the features follow from.
        "encoder": {**encoder, "name": public_name(encoder["name"])},
        "language_model": {**info.language_model, "name": public_name(info.language_model["name"])},
    }


def _select_feature(tokens: str, grid: int | None) -> str:
    return _SELECT_FEATURE.get(tokens, tokens) if grid is None else f"{tokens} averaged onto {grid}x{grid}"
