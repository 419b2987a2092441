"""The frozen models of a checkpoint, loaded as they are published and compared with those of training."""

from dataclasses import dataclass
from pathlib import Path

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
# The end of every refusal: what the format takes, and what works for any model.
INSTEAD = (
    "LLaVA's format takes a CLIP encoder, encoder.tokens patches or cls+patches, no encoder.grid, and "
    "projector.hidden_size up to the language model's width. Fix: train with these, or serve the checkpoint "
    "itself with `vlm app` or the Dockerfile (docs/app.md); it is plain safetensors (docs/serving.md)."
)


@dataclass(frozen=True)
class Parts:
    """Everything that an export is made of.

    Attributes:
        info, projector, tokenizer, encoder: as this project runs them.
        vision_folder, vision_config, vision_weights: the encoder as it is published.
        language_folder, language_config, language_weights: the language model as it is published, with
            adapters merged in if there are any; never quantized.
        end_ids: the tokens that ended captions in training, in addition to the tokenizer's EOS.
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
        """Return LLaVA's word for the tokens of an image."""
        return _SELECT_STRATEGIES[self.encoder.spec.tokens]


def load_parts(checkpoint: Path, model_cache: Path | None) -> Parts:
    """Load a checkpoint and the models that it names, for an export to LLaVA's format.

    Raises PipelineError when the format cannot express the model, or the models are not those of training.
    """
    from transformers import AutoModelForCausalLM, CLIPVisionModel

    trained = load_checkpoint(checkpoint)
    info = trained.info
    _require_expressible(trained)
    name = info.language_model["name"]
    tokenizer = CaptionTokenizer(info.prompt_params(), info.language_model_params(), model_cache)
    folder = resolve_model(name, info.language_model["revision"], model_cache)
    current = {"tokenizer": tokenizer.spec["digest"], "weights": weights_digest(folder)}
    trained_with = {"tokenizer": info.tokenizer["digest"], "weights": info.language_model["weights"]}
    for part, _, _ in differences(current, trained_with):
        raise PipelineError(
            f"The {part} of {name} changed since {checkpoint} was trained. "
            "Fix: restore that revision, or train again."
        )
    vision_folder = resolve_model(info.encoder["name"], info.encoder["revision"], model_cache, ENCODER)
    kind = read_json(vision_folder / "config.json").get("model_type")
    if kind not in ("clip", "clip_vision_model"):
        raise PipelineError(f"The encoder {info.encoder['name']} is not a CLIP model but {kind!r}. {INSTEAD}")
    encoder = load_encoder(info.encoder_params(), torch.device("cpu"), model_cache)
    encoder.spec.require_same(info.encoder, checkpoint)
    vision = CLIPVisionModel.from_pretrained(
        vision_folder, local_files_only=True, use_safetensors=True, dtype=_AS_STORED
    )
    language = AutoModelForCausalLM.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=_AS_STORED
    )
    weights, dtype = dict(language.state_dict()), language.dtype
    if info.lora:
        # LLaVA's format has no place for adapters next to the weights.
        weights = merge_adapters(weights, trained.adapters, adapter_params(info.lora))
        dtype = torch.float32
    return Parts(
        info=info,
        projector=trained.projector,
        tokenizer=tokenizer,
        encoder=encoder,
        vision_folder=vision_folder,
        vision_config=vision.config.to_diff_dict(),
        vision_weights=dict(vision.state_dict()),
        language_folder=folder,
        # As in the file: `transformers` renames keys (rope_theta) that other programs read.
        language_config=read_json(folder / "config.json"),
        end_ids=frozenset(info.language_model["end_ids"]),
        language_weights=weights,
        dtype=dtype,
        tied=bool(language.config.tie_word_embeddings),
    )


def _require_expressible(trained: Checkpoint) -> None:
    """Refuse what the checkpoint alone shows, before anything large is loaded."""
    encoder, projector = trained.info.encoder, trained.projector
    if is_wheel(encoder["name"]):
        raise PipelineError(f"The encoder {encoder['name']} is not a CLIP model. {INSTEAD}")
    if encoder["tokens"] not in _SELECT_STRATEGIES or encoder["grid"] is not None:
        raise PipelineError(
            f"The checkpoint uses encoder.tokens {encoder['tokens']} and encoder.grid {encoder['grid']}. "
            f"{INSTEAD}"
        )
    hidden, width = projector.hidden.out_features, projector.output.out_features
    if hidden > width:
        raise PipelineError(
            f"projector.hidden_size is {hidden}, wider than the language model ({width}). {INSTEAD}"
        )
