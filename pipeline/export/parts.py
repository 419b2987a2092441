"""The parts that a checkpoint belongs to, loaded as they are published and compared with its facts."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import PipelineError
from pipeline.files.json_files import JsonObject, read_json
from pipeline.model.adapters import adapter_params, merge_adapters
from pipeline.model.checkpoints import CheckpointInfo, load_checkpoint
from pipeline.model.projector import Projector
from pipeline.pretrained.pretrained import resolve_model, weights_digest
from pipeline.pretrained.wheels import is_wheel
from pipeline.text.prompt import CaptionTokenizer
from pipeline.vision.encoder import ImageEncoder
from pipeline.vision.load import load_encoder

# The type of the weights in their file.
_AS_STORED = "auto"
_EXPORTABLE = (
    "exportable to LLaVA's format: a CLIP encoder with encoder.tokens patches or cls+patches and no "
    "encoder.grid; the projector alone can always be exported"
)


@dataclass(frozen=True)
class VisionPart:
    """The encoder as this project runs it, and its weights as they are published."""

    encoder: ImageEncoder
    folder: Path
    config: JsonObject
    weights: dict[str, Tensor]


@dataclass(frozen=True)
class LanguagePart:
    """The language model as it is published, with adapters merged in if there are any; never quantized."""

    folder: Path
    config: JsonObject
    end_ids: frozenset[int]
    weights: dict[str, Tensor]
    dtype: torch.dtype
    tied: bool


@dataclass(frozen=True)
class Parts:
    """Everything that a whole model is put together from."""

    info: CheckpointInfo
    projector: Projector
    tokenizer: CaptionTokenizer
    vision: VisionPart
    language: LanguagePart


def load_parts(checkpoint: Path, model_cache: Path | None) -> Parts:
    """Load a checkpoint and the models that it names, for an export to LLaVA's format.

    Raises PipelineError when the format cannot express the model, or the models found are not those it
    was trained with.
    """
    trained = load_checkpoint(checkpoint)
    info = trained.info
    _require_expressible(trained.projector, info)
    facts = info.language_model
    tokenizer = CaptionTokenizer(info.prompt_params(), info.language_model_params(), model_cache)
    _require_equal(checkpoint, facts["name"], "tokenizer", info.tokenizer["digest"], tokenizer.spec.digest)
    folder = resolve_model(facts["name"], facts["revision"], model_cache)
    _require_equal(checkpoint, facts["name"], "weights", facts["weights"], weights_digest(folder))
    vision = _load_vision(checkpoint, info, model_cache)
    language = _load_language(facts["name"], folder)
    if info.lora:
        # LLaVA's format has no place for adapters beside the weights.
        weights = merge_adapters(language.weights, trained.adapters, adapter_params(info.lora))
        language = replace(language, weights=weights, dtype=torch.float32)
    return Parts(info, trained.projector, tokenizer, vision, language)


def _require_expressible(projector: Projector, info: CheckpointInfo) -> None:
    """What can be said from the checkpoint alone, before anything large is loaded."""
    encoder = info.encoder
    if is_wheel(encoder["name"]):
        raise PipelineError(f"the encoder {encoder['name']} is no CLIP model; {_EXPORTABLE}.")
    if encoder["tokens"] not in ("patches", "cls+patches") or encoder["grid"] is not None:
        raise PipelineError(
            f"the checkpoint uses encoder.tokens {encoder['tokens']} and encoder.grid {encoder['grid']}; "
            f"{_EXPORTABLE}."
        )
    hidden, width = projector.hidden.out_features, projector.output.out_features
    if hidden > width:
        raise PipelineError(
            f"projector.hidden_size is {hidden}, but LLaVA's format has a hidden layer as wide as the "
            f"language model, {width}; train with projector.hidden_size of at most {width}, or export the "
            "projector alone."
        )


def _load_vision(checkpoint: Path, info: CheckpointInfo, model_cache: Path | None) -> VisionPart:
    from transformers import CLIPVisionModel

    facts = info.encoder
    name = facts["name"]
    folder = resolve_model(name, facts["revision"], model_cache)
    kind = read_json(folder / "config.json").get("model_type")
    if kind not in ("clip", "clip_vision_model"):
        raise PipelineError(f"the encoder {name} is no CLIP model but {kind!r}; {_EXPORTABLE}.")
    encoder = load_encoder(info.encoder_params(), torch.device("cpu"), model_cache)
    for key, found in encoder.spec.as_dict().items():
        _require_equal(checkpoint, name, f"encoder {key}", facts[key], found)
    model = CLIPVisionModel.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, dtype=_AS_STORED
    )
    return VisionPart(encoder, folder, model.config.to_dict(), dict(model.state_dict()))


def _load_language(name: str, folder: Path) -> LanguagePart:
    """The language model in the type that it is stored in."""
    from transformers import AutoModelForCausalLM

    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=_AS_STORED,
        )
    except (OSError, ValueError) as error:
        raise PipelineError(
            f"{name} cannot be loaded as a causal language model: {' '.join(str(error).split())}"
        ) from error
    ends = model.generation_config.eos_token_id
    return LanguagePart(
        folder=folder,
        # The file's own words: `transformers` renames keys (rope_theta) that other programs read.
        config=read_json(folder / "config.json"),
        end_ids=frozenset([ends] if isinstance(ends, int) else ends or []),
        weights=dict(model.state_dict()),
        dtype=model.dtype,
        tied=bool(model.config.tie_word_embeddings),
    )


def _require_equal(checkpoint: Path, name: str, what: str, wanted: object, found: object) -> None:
    if found != wanted:
        raise PipelineError(
            f"{checkpoint} was trained with {what} {wanted!r:.40} of {name}, but now it is {found!r:.40}; "
            "train anew or restore that revision."
        )
