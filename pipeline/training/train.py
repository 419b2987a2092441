"""A training run: projector and adapters, from cached features, resumable at any step.

The fingerprint of a run covers everything that affects its result, and names the scratch folder of its
unfinished work. A run with the same fingerprint continues there; any other run starts at step 1.
"""

import logging

import numpy as np
import torch

from pipeline.features.store import FeatureStore
from pipeline.files.json_files import JsonObject, digest, write_json
from pipeline.hardware.compilation import should_compile
from pipeline.hardware.execution import Execution
from pipeline.hardware.tracking import tracking
from pipeline.model.adapters import adapter_spec, inject_adapters
from pipeline.model.checkpoints import CheckpointInfo
from pipeline.model.dequantize import dequantize_layers, should_dequantize
from pipeline.model.language_model import LanguageModel, load_language_model
from pipeline.model.projector import Projector
from pipeline.model.vision_language_model import VisionLanguageModel
from pipeline.params.schema import Params, TrainParams
from pipeline.pretrained.pretrained import resolve_model, tokenizer_digest
from pipeline.text.token_store import read_tokens, require_tokenizer
from pipeline.training.batches import TrainingData, read_neighbors
from pipeline.training.features import TrainingFeatures
from pipeline.training.outputs import LiveCurve, TrainPaths, TrainSummary, publish, summarize
from pipeline.training.provenance import log_new_training, training_provenance
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
    # The store is opened once: its file may be replaced while training goes on.
    with FeatureStore(paths.features) as store:
        features = TrainingFeatures(store, tokens.image_ids, execution.runtime.feature_loading)
        data = TrainingData(features, tokens, *read_neighbors(paths.neighbors, tokens))
        model = _fresh_model(data, settings, execution)
        provenance = training_provenance(settings, data, model.language_model, execution.processes.count)
        info = _checkpoint_info(provenance, model, data, settings)
        is_main = execution.processes.is_main
        folder = RunFolder(execution.scratch / info.training[:16], paths.checkpoints, info, is_main)
        epochs = settings.train.epochs
        execution.processes.require_same({**provenance, "epochs": epochs, "libraries": folder.versions})
        trainer = Trainer(model, data, settings.train, execution, folder)
        if is_main:
            log_new_training(folder.path, provenance)
        trackers = execution.runtime.trackers if is_main else ()
        with tracking(trackers, execution.scratch.parent, "train", info.training) as track:
            show = LiveCurve(paths.curve, track).show if is_main else lambda _: None
            trained_steps = trainer.run(show)
            # The state of a longer run has steps of later epochs too.
            curve = [row for row in trainer.state.curve if row[1] <= epochs]
            show(curve)
    summary = summarize(curve, epochs, trained_steps)
    if is_main:
        counts = {
            "images": len(tokens.image_ids),
            "captions": sum(map(len, tokens.captions)),
            "trainable_parameters": sum(p.numel() for p in model.trainable_parameters()),
        }
        write_json(paths.cost, trainer.state.cost.metrics(execution.placement))
        publish(paths, folder.path, summary, counts)
    return summary


def _fresh_model(data: TrainingData, settings: Params, execution: Execution) -> VisionLanguageModel:
    """Build the model that training starts with: a fresh projector, the language model, fresh adapters."""
    placement, features = execution.placement, data.features
    language_model = load_language_model(settings.language_model, placement, execution.runtime.model_cache)
    language_model.require_window(data.prefix_length + max(map(max, data.lengths)))
    if should_dequantize(execution.runtime.dequantize, language_model, placement):
        dequantize_layers(language_model)
    torch.manual_seed(settings.train.seed)
    params = settings.projector
    projector = Projector(features.spec["width"], params.hidden_size, language_model.width, params.dropout)
    # A random sample: in a folder that is sorted by class the first images show one class.
    images = np.random.default_rng(settings.train.seed).permutation(len(data.lengths))[:_SCALE_IMAGES]
    sample = features.read(images.tolist()).float()  # [n, P, D_v]
    if params.standardize:
        projector.standardize(sample)
    if params.match_embedding_norm:
        projector.scale_output(sample, language_model.embedding_norm())
    # After the projector, whose initialization they must not change.
    adapters = inject_adapters(language_model, settings.lora)
    model = VisionLanguageModel(projector.to(placement.device), language_model, data.prompt, adapters)
    _log_parameters(model)
    if settings.train.gradient_checkpointing:
        language_model.checkpoint_layers()
    if should_compile(execution.runtime.compile, placement, _flop(data, settings.train, language_model)):
        language_model.compile_layers()
    return model


def _flop(data: TrainingData, params: TrainParams, language_model: LanguageModel) -> float:
    """Estimate the floating-point operations of an epoch: a forward and a backward product per weight.

    It is not the run that counts: more epochs must not change how the first epochs were computed.
    """
    together = None if params.captions_per_sequence == "all" else params.captions_per_sequence
    rows = sum(-(-len(captions) // (together or len(captions))) for captions in data.lengths)
    positions = data.prefix_length * rows + sum(map(sum, data.lengths))
    return 4.0 * positions * language_model.layer_weights


def _checkpoint_info(
    provenance: JsonObject, model: VisionLanguageModel, data: TrainingData, settings: Params
) -> CheckpointInfo:
    """Build the provenance of each checkpoint of a training; its epoch is set later."""
    shared = ("encoder", "tokenizer", "language_model", "train", "features", "tokens")
    count = sum(map(len, data.tokens.conversations))
    questions = {"conversations": count, "longest_answer": data.longest_answer} if count else {}
    return CheckpointInfo(
        **{name: provenance[name] for name in shared},
        epoch=0,
        data={**provenance["data"], "images": len(data.tokens.image_ids), **questions},
        hidden_size=settings.projector.hidden_size,
        width_out=model.language_model.width,
        training=digest(provenance),
        longest_caption=data.longest_caption,
        lora=adapter_spec(settings.lora),
        memory=data.memory,
    )


def _log_parameters(model: VisionLanguageModel) -> None:
    """Log how many values each part stores and trains; adapters are a part of the language model."""
    for name, part in (("projector", model.projector), ("language model", model.language_model)):
        stored = sum(p.numel() for p in part.parameters())
        trained = sum(p.numel() for p in part.parameters() if p.requires_grad)
        logger.info("%-15s %12s stored values, %s of them trained", name, f"{stored:,}", f"{trained:,}")
