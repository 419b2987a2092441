"""A training run: projector and adapters, from cached features, resumable at any step.

Everything that affects the result has a part in the run's fingerprint, and work in progress lies in a
scratch folder of that name. A run with the same fingerprint continues there; any other starts afresh.
"""

import logging

import numpy as np
import torch

from pipeline.errors import PipelineError
from pipeline.features.store import FeatureStore
from pipeline.files.json_files import JsonObject, digest, write_json
from pipeline.hardware.compilation import should_compile
from pipeline.hardware.execution import Execution
from pipeline.model.adapters import adapter_facts, inject_adapters
from pipeline.model.checkpoints import CheckpointInfo
from pipeline.model.language_model import LanguageModel, load_language_model
from pipeline.model.projector import Projector
from pipeline.model.vision_language_model import VisionLanguageModel
from pipeline.params.schema import Params, TrainParams
from pipeline.pretrained.pretrained import resolve_model, tokenizer_digest
from pipeline.text.token_store import TokenizedCaptions, read_tokens, require_tokenizer
from pipeline.training.batches import TrainingData
from pipeline.training.facts import note_training, training_facts
from pipeline.training.features import TrainingFeatures
from pipeline.training.outputs import TrainPaths, TrainSummary, publish, summarize
from pipeline.training.run_folder import RunFolder
from pipeline.training.trainer import Trainer

logger = logging.getLogger(__name__)

# Images, drawn by the seed, whose features the fresh projector's input and output are scaled by.
_SCALE_IMAGES = 64


def train(paths: TrainPaths, settings: Params, execution: Execution) -> TrainSummary:
    """Train projector and adapters for `train.epochs` epochs and leave a checkpoint for each.

    Raises PipelineError when features, tokens and model do not belong together, or training diverges.
    """
    name, revision = settings.language_model.name, settings.language_model.revision
    tokens = read_tokens(paths.tokens, "train")
    tokenizer = tokenizer_digest(resolve_model(name, revision, execution.runtime.model_cache))
    require_tokenizer(tokens, name, revision, tokenizer)
    # One opening gives everything that is read of it: the file may be exchanged while training goes on.
    with FeatureStore(paths.features) as store:
        features = TrainingFeatures(store, tokens.image_ids, execution.runtime.feature_loading)
        data = TrainingData(features, tokens)
        model = _fresh_model(data, settings, execution)
        facts = training_facts(settings, data, model.language_model.spec, execution.processes.count)
        info = _checkpoint_info(facts, model, data, settings)
        is_main = execution.processes.is_main
        folder = RunFolder(execution.scratch / info.training[:16], paths.checkpoints, info, is_main)
        of_run = {"epochs": settings.train.epochs, "libraries": folder.versions}
        execution.processes.require_same({**facts, **of_run})
        trainer = Trainer(model, data, settings.train, execution, folder)
        if is_main:
            note_training(folder.path, facts)
        trained_steps = trainer.run()
    curve = trainer.state.curve
    summary = summarize(curve, settings.train.epochs, trained_steps)
    if is_main:
        counts = {
            "images": len(tokens.image_ids),
            "captions": sum(map(len, tokens.captions)),
            "trainable_parameters": sum(p.numel() for p in model.trainable_parameters()),
        }
        write_json(paths.cost, trainer.state.cost.figures(execution.placement))
        publish(paths, folder.path, curve, summary, counts)
    return summary


def _fresh_model(data: TrainingData, settings: Params, execution: Execution) -> VisionLanguageModel:
    """The frozen language model behind a projector, and with adapters, as training starts with them."""
    placement, features = execution.placement, data.features
    language_model = load_language_model(settings.language_model, placement, execution.runtime.model_cache)
    _require_vocabulary(data.tokens, settings.language_model.name, language_model.vocabulary)
    language_model.require_window(data.prefix_length + max(map(max, data.lengths)))
    torch.manual_seed(settings.train.seed)
    params = settings.projector
    width_in, width_out = features.spec["width"], language_model.width
    projector = Projector(width_in, params.hidden_size, width_out, params.dropout)
    # Not the first ones: in a folder that is sorted by class they show one class.
    images = np.random.default_rng(settings.train.seed).permutation(len(data.lengths))[:_SCALE_IMAGES]
    sample = features.read(images.tolist()).float()  # [n, P, D_v]
    if params.standardize:
        projector.standardize(sample)
    if params.match_embedding_norm:
        projector.scale_output(sample, language_model.embedding_norm())
    # After the projector, whose initialisation they must not change.
    adapters = inject_adapters(language_model, settings.lora)
    model = VisionLanguageModel(projector.to(placement.device), language_model, data.tokens.prompt, adapters)
    _log_parameters(model)
    if settings.train.gradient_checkpointing:
        language_model.checkpoint_layers()
    if should_compile(execution.runtime.compile, placement, _flop(data, settings.train, language_model)):
        language_model.compile_layers()
    return model


def _flop(data: TrainingData, params: TrainParams, language_model: LanguageModel) -> float:
    """Floating-point operations of an epoch.

    Not of the run: more epochs must not change how the first ones were computed. Each position meets each
    weight once forward and once backward.
    """
    together = None if params.captions_per_sequence == "all" else params.captions_per_sequence
    rows = sum(-(-len(of) // (together or len(of))) for of in data.lengths)
    positions = data.prefix_length * rows + sum(map(sum, data.lengths))
    return 4.0 * positions * language_model.layer_weights


def _checkpoint_info(
    facts: JsonObject, model: VisionLanguageModel, data: TrainingData, settings: Params
) -> CheckpointInfo:
    """The facts that each checkpoint of a training carries, but for its epoch."""
    return CheckpointInfo(
        epoch=0,
        encoder=facts["encoder"],
        tokenizer=facts["tokenizer"],
        language_model=facts["language_model"],
        hidden_size=settings.projector.hidden_size,
        width_out=model.language_model.width,
        # Without the number of epochs where it has no influence: one more epoch must not change the bytes
        # of those before.
        train=facts["train"],
        training=digest(facts),
        features=facts["features"],
        tokens=facts["tokens"],
        longest_caption=max(map(max, data.lengths)),
        lora=adapter_facts(settings.lora),
    )


def _require_vocabulary(tokens: TokenizedCaptions, name: str, vocabulary: int) -> None:
    largest = max(int(c.max()) for captions in tokens.captions for c in captions)
    if largest >= vocabulary:
        raise PipelineError(
            f"the tokens go up to {largest}, but {name} has a vocabulary of {vocabulary}; "
            "run `dvc repro tokenize`."
        )


def _log_parameters(model: VisionLanguageModel) -> None:
    """Log how many values each part stores and trains; adapters are a part of the language model."""
    for name, part in (("projector", model.projector), ("language model", model.language_model)):
        stored = sum(p.numel() for p in part.parameters())
        trained = sum(p.numel() for p in part.parameters() if p.requires_grad)
        logger.info("%-15s %12s stored values, %s of them trained", name, f"{stored:,}", f"{trained:,}")
