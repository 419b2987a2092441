"""The parts that a checkpoint belongs to, loaded as they are published and compared with its facts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import PipelineError
from pipeline.files.differences import differences
from pipeline.files.json_files import JsonObject, read_json
from pipeline.model.adapters import adapter_params, merge_adapters
from pipeline.model.checkpoints import Checkpoint, CheckpointInfo, load_checkpoint
from pipeline.model.projector import Projector
from pipeline.pretrained.pretrained import ENCODER, resolve_model, weights_digest
from pipeline.pretrained.wheels import is_wheel
from pipeline.text.prompt import CaptionTokenizer
from pipeline.vision.encoder import ImageEncoder
from pipeline.vision.load import load_encoder

# The type of the weights in their file.
_AS_STORED = "auto"
# LLaVA's words for `encoder.tokens`: patches alone, or the class token before them.
_SELECT_STRATEGIES = {"patches": "default", "cls+patches": "full"}
# How every refusal ends: what the format takes, and what works for any model.
INSTEAD = (
    "LLaVA's format takes a CLIP encoder, encoder.tokens patches or cls+patches, no encoder.grid, and "
    "projector.hidden_size up to the language model's width. Fix: train with these, or read the checkpoint "
    "itself: it is plain safetensors with the keys mean, scale, hidden.weight, hidden.bias, output.weight, "
    "output.bias (docs/serving.md)."
)


@dataclass(frozen=True)
class Parts:
    """Everything that a whole model is put together from.

    Attributes:
        info, projector, tokenizer, encoder: as this project runs them.
        vision_folder, vision_config, vision_weights: the encoder as it is published.
        language_folder, language_config, end_ids, language_weights: the language model as it is published,
            with adapters merged in if there are any; never quantized.
        dtype: of the language model's weights.
        tied: whether its head is its embedding.
    """

    info: CheckpointInfo
    projector: Projector
    tokenizer: CaptionTokenizer
    encoder: ImageEncoder
    vision_folder: Path
    vision_config: JsonObject
    vision_weights: dict[str, Tensor]
    language_folder: Path
    language_config: JsonObject
    end_ids: frozenset[int]
    language_weights: dict[str, Tensor]
    dtype: torch.dtype
    tied: bool

    @property
    def select_strategy(self) -> str:
        """LLaVA's word for the tokens of an image."""
        return _SELECT_STRATEGIES[self.encoder.spec.tokens]


def load_parts(checkpoint: Path, model_cache: Path | None) -> Parts:
    """Load a checkpoint and the models that it names, for an export to LLaVA's format.

    Raises PipelineError when the format cannot express the model, or the models found are not those it
    was trained with.
    """
    from transformers import CLIPVisionModel

    trained = load_checkpoint(checkpoint)
    info = trained.info
    _require_expressible(trained)
    name = info.language_model["name"]
    tokenizer = CaptionTokenizer(info.prompt_params(), info.language_model_params(), model_cache)
    _require_equal(checkpoint, name, "tokenizer", info.tokenizer["digest"], tokenizer.spec["digest"])
    folder = resolve_model(name, info.language_model["revision"], model_cache)
    _require_equal(checkpoint, name, "weights", info.language_model["weights"], weights_digest(folder))
    vision_folder = _vision_folder(info.encoder, model_cache)
    encoder = load_encoder(info.encoder_params(), torch.device("cpu"), model_cache)
    for key, found, wanted in differences(encoder.spec.as_dict(), info.encoder):
        _require_equal(checkpoint, encoder.spec.name, f"encoder {key}", wanted, found)
    vision = CLIPVisionModel.from_pretrained(
        vision_folder, local_files_only=True, use_safetensors=True, dtype=_AS_STORED
    )
    language = _load_language(name, folder)
    weights, dtype = dict(language.state_dict()), language.dtype
    if info.lora:
        # LLaVA's format has no place for adapters next to the weights.
        weights = merge_adapters(weights, trained.adapters, adapter_params(info.lora))
        dtype = torch.float32
    ends = language.generation_config.eos_token_id
    return Parts(
        info=info,
        projector=trained.projector,
        tokenizer=tokenizer,
        encoder=encoder,
        vision_folder=vision_folder,
        vision_config=vision.config.to_diff_dict(),
        vision_weights=dict(vision.state_dict()),
        language_folder=folder,
        # The file's own words: `transformers` renames keys (rope_theta) that other programs read.
        language_config=read_json(folder / "config.json"),
        end_ids=frozenset([ends] if isinstance(ends, int) else ends or []),
        language_weights=weights,
        dtype=dtype,
        tied=bool(language.config.tie_word_embeddings),
    )


def _require_expressible(trained: Checkpoint) -> None:
    """What can be said from the checkpoint alone, before anything large is loaded."""
    encoder, projector = trained.info.encoder, trained.projector
    if is_wheel(encoder["name"]):
        raise PipelineError(f"the encoder {encoder['name']} is not a CLIP model. {INSTEAD}")
    if encoder["tokens"] not in _SELECT_STRATEGIES or encoder["grid"] is not None:
        raise PipelineError(
            f"the checkpoint uses encoder.tokens {encoder['tokens']} and encoder.grid {encoder['grid']}. "
            f"{INSTEAD}"
        )
    hidden, width = projector.hidden.out_features, projector.output.out_features
    if hidden > width:
        raise PipelineError(
            f"projector.hidden_size is {hidden}, wider than the language model ({width}). {INSTEAD}"
        )


def _vision_folder(facts: JsonObject, model_cache: Path | None) -> Path:
    folder = resolve_model(facts["name"], facts["revision"], model_cache, ENCODER)
    kind = read_json(folder / "config.json").get("model_type")
    if kind not in ("clip", "clip_vision_model"):
        raise PipelineError(f"the encoder {facts['name']} is not a CLIP model but {kind!r}. {INSTEAD}")
    return folder


def _load_language(name: str, folder: Path) -> Any:
    """The language model in the type that it is stored in."""
    from transformers import AutoModelForCausalLM

    try:
        return AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=_AS_STORED
        )
    except (OSError, ValueError) as error:
        raise PipelineError(
            f"{name} cannot be loaded as a causal language model: {' '.join(str(error).split())}"
        ) from error


def _require_equal(checkpoint: Path, name: str, what: str, wanted: object, found: object) -> None:
    if found != wanted:
        raise PipelineError(
            f"{checkpoint} was trained with {what} {wanted!r:.40} of {name}, but now it is {found!r:.40}. "
            "Fix: train again, or restore that revision."
        )
