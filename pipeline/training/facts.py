"""What the result of a training follows from, short enough to be kept beside its state and compared."""

import hashlib
from dataclasses import asdict

from pipeline.files.json_files import JsonObject, canonical_json
from pipeline.params.schema import LoraParams, ProjectorParams, TrainParams
from pipeline.result_code import TRAIN
from pipeline.text.token_store import TokenizedCaptions


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
    encoder_spec: JsonObject,
    language_model_spec: JsonObject,
    params: TrainParams,
    projector_params: ProjectorParams,
    lora_params: LoraParams,
    process_count: int,
) -> JsonObject:
    """Everything that the checkpoints follow from; `features` is the digest of the train images' ones."""
    return {
        "code": TRAIN.digests(),
        "encoder": encoder_spec,
        "features": features,
        "tokens": tokens_digest(tokens),
        "tokenizer": tokens.spec,
        "language_model": language_model_spec,
        "projector": asdict(projector_params),
        "lora": asdict(lora_params) if lora_params.rank else None,
        "train": result_params(params),
        # Each process draws its own dropout.
        "processes": process_count if projector_params.dropout or lora_params.dropout else None,
    }
