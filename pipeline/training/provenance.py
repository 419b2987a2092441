"""What the result of a training follows from: saved next to its state, compared with the last training."""

import hashlib
import json
import logging
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from pipeline.errors import PipelineError, first_few, shorten
from pipeline.files.differences import differences
from pipeline.files.json_files import JsonObject, canonical_json, digest, read_json, write_json
from pipeline.model.language_model import LanguageModel
from pipeline.params.schema import DataParams, Params
from pipeline.result_code import TRAIN
from pipeline.text.token_store import TokenizedCaptions
from pipeline.training.batches import TrainingData

logger = logging.getLogger(__name__)

_FILE = "provenance.json"
# Inputs whose values are digests: the text for a difference, and the inputs that change with them.
_INPUTS = {
    "code": ("the code differs from that", ()),
    "encoder": ("the image encoder differs from that", ("features",)),
    "language_model": ("the language model differs from that", ("tokenizer", "tokens")),
    "tokenizer": ("the prompt or the tokenizer differs from that", ("tokens",)),
    "tokens": ("the images or captions differ from those", ("features",)),
    "features": ("the features differ from those", ("neighbors",)),
    "neighbors": ("the similar images differ from those", ()),
}


def training_provenance(
    settings: Params, data: TrainingData, language_model: LanguageModel, process_count: int
) -> JsonObject:
    """Return everything that the checkpoints of a training follow from, as JSON values."""
    lora, train = settings.lora, asdict(settings.train)
    # It changes memory and time, and no result.
    del train["gradient_checkpointing"]
    if settings.train.schedule == "constant":
        # More epochs then continue, with the result of a longer run.
        del train["epochs"]
    provenance = {
        "code": TRAIN.digests(),
        # It changes no weight. Checkpoints name their dataset, and another one may have equal bytes.
        "data": dataset_identity(settings.data),
        "encoder": data.features.spec,
        "features": data.features.digest,
        "tokens": _tokens_digest(data.tokens),
        "neighbors": None if data.neighbors is None else [data.memory, digest(data.neighbors.tolist())],
        "tokenizer": data.tokens.spec,
        "language_model": language_model.spec,
        "projector": asdict(settings.projector),
        "lora": asdict(lora) if lora.rank else None,
        "train": train,
        # Each process draws its own dropout.
        "processes": process_count if settings.projector.dropout or lora.dropout else None,
    }
    values: JsonObject = json.loads(canonical_json(provenance))
    return values


def dataset_identity(params: DataParams) -> dict[str, str]:
    """Return source and name of a dataset; not where it lies, for it may be moved."""
    name = Path(params.root).name or params.root
    if params.source in ("scenes", "flickr8k", "hub"):
        name = Path(params.pins).stem if params.source == "hub" else params.source
    return {"source": params.source, "name": "Flickr8k" if name == "flickr8k" else name}


def _tokens_digest(tokens: TokenizedCaptions) -> str:
    """Compute the SHA-256 (hex) of the prompt's ids and each image's id, caption ids and truncations."""
    prompt = tokens.prompt
    total = hashlib.sha256(canonical_json(asdict(prompt)).encode())
    # Image by image: one text of all would take more memory than the ids.
    for image_id, captions, truncated in zip(
        tokens.image_ids, tokens.captions, tokens.truncated, strict=True
    ):
        ids = [caption.tolist() for caption in captions]
        total.update(canonical_json([image_id, ids, truncated]).encode())
    if any(tokens.conversations):
        for branches in tokens.conversations:
            values = [(branch.ids.tolist(), branch.labeled.tolist()) for branch in branches]
            total.update(canonical_json(values).encode())
    return total.hexdigest()


def log_new_training(folder: Path, provenance: JsonObject) -> None:
    """Log how a training without a state differs from the one that ran last; then write its provenance.

    `folder` is the scratch folder of the training, next to those of other trainings.
    """
    others = [path for path in folder.parent.glob(f"*/{_FILE}") if path.parent != folder]
    if others and not any(folder.glob("state*.safetensors")):
        last = max(others, key=lambda path: path.stat().st_mtime_ns)
        # No result follows from a damaged file.
        with suppress(PipelineError):
            changes = _explain(differences(provenance, read_json(last)))
            logger.info("New training from step 1: %s.", changes)
    # Also where it exists already: its time says which training ran last.
    write_json(folder / _FILE, provenance)


def _explain(changes: list[tuple[str, object, object]]) -> str:
    """Say how a training differs from the last one: inputs first, then values of params."""
    names = {name.split(".")[0] for name, _, _ in changes}
    effects = {effect for name in names & _INPUTS.keys() for effect in _INPUTS[name][1]}
    inputs = [f"{_INPUTS[name][0]} of the last run" for name in _INPUTS if name in names - effects]
    values = [
        f"{name} is {shorten(value)}, was {shorten(last)}"
        for name, value, last in changes
        if name.split(".")[0] not in _INPUTS
    ]
    return first_few([*inputs, *values], 4, "; ")
