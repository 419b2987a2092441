"""What the result of a training follows from: kept with its state, and compared with the last training."""

import hashlib
import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError, first_few, shorten
from pipeline.files.differences import differences
from pipeline.files.json_files import JsonObject, canonical_json, read_json, write_json
from pipeline.model.language_model import LanguageModelSpec
from pipeline.params.schema import Params, TrainParams
from pipeline.result_code import TRAIN
from pipeline.text.token_store import TokenizedCaptions
from pipeline.training.batches import TrainingData

logger = logging.getLogger(__name__)

_FILE = "facts.json"
# Facts whose values tell people nothing: how a difference reads, and which other facts it changes as well.
_KINDS = {
    "code": ("the code differs from that", ()),
    "encoder": ("the image encoder differs from that", ("features",)),
    "language_model": ("the language model differs from that", ("tokenizer", "tokens")),
    "tokenizer": ("the prompt or the tokenizer differs from that", ("tokens",)),
    "tokens": ("the images or captions differ from those", ("features",)),
    "features": ("the features differ from those", ()),
}


def training_facts(
    settings: Params, data: TrainingData, language_model: LanguageModelSpec, process_count: int
) -> JsonObject:
    """Everything that the checkpoints of a training follow from."""
    lora = settings.lora
    return {
        "code": TRAIN.digests(),
        "encoder": data.features.spec,
        "features": data.features.digest,
        "tokens": _tokens_digest(data.tokens),
        "tokenizer": data.tokens.spec,
        "language_model": language_model.as_dict(),
        "projector": asdict(settings.projector),
        "lora": asdict(lora) if lora.rank else None,
        "train": _result_params(settings.train),
        # Each process draws its own dropout.
        "processes": process_count if settings.projector.dropout or lora.dropout else None,
    }


def _tokens_digest(tokens: TokenizedCaptions) -> str:
    """SHA-256 (hex) over the prompt's ids, and each image's id, caption ids and which are truncated."""
    prompt = tokens.prompt
    total = hashlib.sha256(canonical_json([prompt.before, prompt.after, prompt.eos]).encode())
    # Image by image: as one text they would take more memory than all that training holds of captions.
    for image_id, captions, truncated in zip(
        tokens.image_ids, tokens.captions, tokens.truncated, strict=True
    ):
        ids = [caption.tolist() for caption in captions]
        total.update(canonical_json([image_id, ids, truncated]).encode())
    return total.hexdigest()


def _result_params(params: TrainParams) -> JsonObject:
    """The parameters of `train` that its result follows from."""
    facts = asdict(params)
    # It changes memory and time, and no result.
    del facts["gradient_checkpointing"]
    if params.schedule == "constant":
        # Raising the number of epochs then continues, with the result of a longer run.
        del facts["epochs"]
    return facts


def note_training(folder: Path, facts: JsonObject) -> None:
    """Write the facts of a training into its folder; where it has no state, log why it continues no other.

    It is compared with the training that ran last among those next to its folder.
    """
    facts = json.loads(canonical_json(facts))
    others = [path for path in folder.parent.glob(f"*/{_FILE}") if path.parent != folder]
    readable = [path for path in others if _read_facts(path)]
    if readable and not any(folder.glob("state*.safetensors")):
        last = max(readable, key=lambda path: path.stat().st_mtime_ns)
        logger.info("New training from step 1: %s.", _explain(differences(facts, _read_facts(last))))
    # Also where it exists already: its time says which training ran last.
    write_json(folder / _FILE, facts)


def _read_facts(path: Path) -> JsonObject:
    """Read facts; empty where they are damaged: people read them, and no result follows from them."""
    try:
        facts = read_json(path)
    except PipelineError:
        return {}
    return facts if isinstance(facts, dict) else {}


def _explain(differing: list[tuple[str, Any, Any]]) -> str:
    """Say how a training differs from the last one: kinds of input first, then values of parameters."""
    kinds = {name.split(".")[0] for name, _, _ in differing}
    effects = {effect for kind in kinds & _KINDS.keys() for effect in _KINDS[kind][1]}
    causes = [
        f"{text} of the last run"
        for kind, (text, _) in _KINDS.items()
        if kind in kinds and kind not in effects
    ]
    values = [
        f"{name} is {shorten(now)}, was {shorten(was)}"
        for name, now, was in differing
        if name.split(".")[0] not in _KINDS
    ]
    return first_few([*causes, *values], 4, "; ")
