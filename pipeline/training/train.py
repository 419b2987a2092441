"""A training run: projector and adapters, from cached features, resumable at any step.

Everything that affects the result has a part in the run's fingerprint, and work in progress lies in a
scratch folder of that name. A run with the same fingerprint continues there; any other starts afresh.
"""

import logging
from pathlib import Path

import torch

from pipeline.errors import PipelineError
from pipeline.features.digest import features_digest
from pipeline.features.store import FeatureStore
from pipeline.files.json_files import digest, write_json
from pipeline.hardware.compilation import should_compile
from pipeline.hardware.device import Placement
from pipeline.hardware.execution import Execution
from pipeline.model.adapters import adapter_facts, inject_adapters
from pipeline.model.checkpoints import CheckpointInfo
from pipeline.model.language_model import load_language_model
from pipeline.model.projector import Projector
from pipeline.model.vision_language_model import VisionLanguageModel
from pipeline.params.schema import LanguageModelParams, LoraParams, Params
from pipeline.pretrained.pretrained import resolve_model, tokenizer_digest
from pipeline.text.token_store import TokenizedCaptions, read_tokens, require_tokenizer
from pipeline.training.facts import training_facts
from pipeline.training.features import open_features
from pipeline.training.kept_checkpoints import KeptCheckpoints
from pipeline.training.memory import (
    LargestBatch,
    NoEstimateError,
    estimate_memory,
    largest_batch,
    require_memory,
)
from pipeline.training.outputs import TrainPaths, TrainSummary, publish, summarize
from pipeline.training.run_history import note_training
from pipeline.training.trainer import Trainer

logger = logging.getLogger(__name__)

# Images whose features the fresh projector's input and output are scaled by.
_SCALE_IMAGES = 64


def train(paths: TrainPaths, settings: Params, execution: Execution) -> TrainSummary:
    """Train projector and adapters for `train.epochs` epochs and leave a checkpoint for each.

    Raises PipelineError when features, tokens and model do not belong together, or training diverges.
    """
    params, projector_params, lora_params = settings.train, settings.projector, settings.lora
    language_model_params = settings.language_model
    runtime, placement, processes = execution.runtime, execution.placement, execution.processes
    model_cache = execution.model_cache
    tokens = read_tokens(paths.tokens, "train")
    name, revision = language_model_params.name, language_model_params.revision
    folder = resolve_model(name, revision, model_cache)
    require_tokenizer(tokens, name, revision, tokenizer_digest(folder))
    with FeatureStore(paths.features) as store:
        encoder_spec = store.spec
        images = dict(zip(store.image_ids, store.sha256, strict=True))
        _require_features(paths, tokens, images)
        features_of_run = features_digest(store, tokens.image_ids)
        sample = torch.from_numpy(store.read(tokens.image_ids[:_SCALE_IMAGES])).float()
    lengths = [[len(c) + 1 for c in captions] for captions in tokens.captions]
    prefix_length = tokens.prompt.prefix_length(encoder_spec["num_tokens"])
    _require_memory(
        folder,
        language_model_params,
        lora_params,
        (encoder_spec["width"], projector_params.hidden_size),
        largest_batch(lengths, params, prefix_length, processes.count),
        placement,
        params.gradient_checkpointing,
    )
    trained_on = {image_id: images[image_id] for image_id in tokens.image_ids}
    features = open_features(paths.features, encoder_spec, trained_on, runtime.features)
    language_model = load_language_model(language_model_params, placement, model_cache)
    _require_vocabulary(tokens, name, language_model.vocabulary)

    torch.manual_seed(params.seed)
    width_in, width_out = encoder_spec["width"], language_model.width
    projector = Projector(width_in, projector_params.hidden_size, width_out, projector_params.dropout)
    if projector_params.standardize:
        projector.standardize(sample)
    if projector_params.match_embedding_norm:
        projector.scale_output(sample, language_model.embedding_norm())
    # After the projector, whose initialisation they must not change.
    adapters = inject_adapters(language_model, lora_params)
    model = VisionLanguageModel(projector.to(placement.device), language_model, tokens.prompt, adapters)
    _log_parameters(model)
    if params.gradient_checkpointing:
        language_model.checkpoint_layers()
    # Of an epoch: more epochs must not change how the first ones were computed. Each position meets each
    # weight once forward and once backward.
    together = None if params.captions_per_pass == "all" else params.captions_per_pass
    positions = sum(prefix_length * -(-len(of) // (together or len(of))) + sum(of) for of in lengths)
    flop = 4.0 * positions * language_model.layer_weights
    if should_compile(runtime.compile, placement, flop):
        language_model.compile_layers()

    facts = training_facts(
        features_of_run,
        tokens,
        encoder_spec,
        language_model.spec.as_dict(),
        params,
        projector_params,
        lora_params,
        processes.count,
    )
    fingerprint = digest(facts)
    scratch = execution.scratch / fingerprint[:16]

    def info(epoch: int) -> CheckpointInfo:
        return CheckpointInfo(
            epoch=epoch,
            encoder=encoder_spec,
            tokenizer=tokens.spec,
            language_model=language_model.spec.as_dict(),
            hidden_size=projector_params.hidden_size,
            width_out=width_out,
            # Without the number of epochs where it has no influence: one more epoch must not
            # change the bytes of those before.
            train=facts["train"],
            training=fingerprint,
            features=facts["features"],
            tokens=facts["tokens"],
            longest_caption=max(map(max, lengths)),
            lora=adapter_facts(lora_params),
        )

    checkpoints = KeptCheckpoints(scratch, paths.checkpoints, info)
    trainer = Trainer(model, features, tokens, params, runtime, placement, checkpoints, processes)
    if processes.is_main:
        note_training(scratch, facts)
    trained = trainer.run()
    counts = {
        "images": len(tokens.image_ids),
        "captions": sum(len(c) for c in tokens.captions),
        "trainable_parameters": sum(p.numel() for p in model.trainable_parameters()),
    }
    if not processes.is_main:
        return summarize(trainer.state.curve, params.epochs, trained)
    write_json(paths.cost, trainer.state.cost.figures(placement))
    return publish(paths, scratch, trainer.state.curve, params.epochs, trained, counts)


def _require_features(paths: TrainPaths, tokens: TokenizedCaptions, images: dict[str, str]) -> None:
    missing = [image_id for image_id in tokens.image_ids if image_id not in images]
    if missing:
        raise PipelineError(
            f"{paths.features} lacks {len(missing)} training images, {missing[0]} the first; "
            "run `dvc repro encode`."
        )


def _require_memory(
    folder: Path,
    language_model: LanguageModelParams,
    lora: LoraParams,
    projector_shape: tuple[int, int],
    batch: LargestBatch,
    placement: Placement,
    checkpointing: bool,
) -> None:
    try:
        estimate = estimate_memory(
            folder, language_model, lora, projector_shape, batch, placement.dtype, checkpointing
        )
    except NoEstimateError as error:
        # An estimate is a courtesy: a model that it does not understand can be trained all the same.
        logger.warning("the memory of a step could not be estimated: %s", error)
        return
    require_memory(estimate, placement)


def _require_vocabulary(tokens: TokenizedCaptions, name: str, vocabulary: int) -> None:
    largest = max(int(c.max()) for captions in tokens.captions for c in captions)
    if largest >= vocabulary:
        raise PipelineError(
            f"the tokens go up to {largest}, but {name} has a vocabulary of {vocabulary}; "
            "run `dvc repro tokenize`."
        )


def _log_parameters(model: VisionLanguageModel) -> None:
    adapters = model.adapters.parameters()
    inserted = {id(p) for p in adapters}
    parts = {
        "projector": list(model.projector.parameters()),
        "adapters": adapters,
        "language model": [p for p in model.language_model.parameters() if id(p) not in inserted],
    }
    for name, parameters in parts.items():
        if parameters:
            total = sum(p.numel() for p in parameters)
            state = "trained" if any(p.requires_grad for p in parameters) else "frozen"
            logger.info("%-15s %12s stored values, %s", name, f"{total:,}", state)
