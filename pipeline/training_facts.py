"""What the result of a training follows from, short enough to be kept beside its state and compared."""

import hashlib
from dataclasses import asdict
from typing import Any

from pipeline.params import LoraParams, ProjectorParams, TrainParams
from pipeline.records import JsonObject, canonical_json
from pipeline.token_store import TokenizedCaptions


def tokens_digest(tokens: TokenizedCaptions) -> str:
    """SHA-256 (hex) over the prompt's ids, and each image's id and caption ids, in order."""
    prompt = tokens.prompt
    total = hashlib.sha256(canonical_json([prompt.before, prompt.after, prompt.eos]).encode())
    # Image by image: as one text they would take more memory than all that training holds of captions.
    for image_id, captions in zip(tokens.image_ids, tokens.captions, strict=True):
        total.update(canonical_json([image_id, [caption.tolist() for caption in captions]]).encode())
    return total.hexdigest()


def result_params(params: TrainParams) -> JsonObject:
    """The parameters of `train` that its result follows from."""
    facts = asdict(params)
    # It changes memory and time, and no result.
    del facts["gradient_checkpointing"]
    if params.schedule == "constant":
        # Raising the number of epochs then continues, with the result of a longer run.
        del facts["epochs"]
    return facts


def training_facts(
    features: str,
    tokens: TokenizedCaptions,
    encoder: dict[str, Any],
    language_model: dict[str, Any],
    params: TrainParams,
    projector: ProjectorParams,
    lora: LoraParams,
    processes: int,
) -> JsonObject:
    """Everything that the checkpoints follow from; `features` is the digest of the train images' ones."""
    return {
        "encoder": encoder,
        "features": features,
        "tokens": tokens_digest(tokens),
        "tokenizer": tokens.spec,
        "language_model": language_model,
        "projector": asdict(projector),
        "lora": asdict(lora) if lora.rank else None,
        "train": result_params(params),
        # Each process draws its own dropout.
        "processes": processes if projector.dropout or lora.dropout else None,
    }
