"""The evaluate stage: every checkpoint captions and scores dev and test, and dev chooses the best."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.captions import SPLITS, CaptionRecord, Split, read_captions, select_split
from pipeline.errors import PipelineError
from pipeline.evaluation.answers import evaluate_answers
from pipeline.evaluation.choice import choose_epoch
from pipeline.evaluation.controls import control_captions
from pipeline.evaluation.metrics_files import (
    SCORED_SPLITS,
    EpochResult,
    epochs_csv,
    evaluation_metrics,
    summary_metrics,
)
from pipeline.evaluation.predictor import Predictor
from pipeline.features.store import FeatureStore
from pipeline.files.atomic import replace_folder
from pipeline.files.json_files import JsonObject, write_atomic, write_json, write_jsonl
from pipeline.hardware.execution import Execution
from pipeline.hardware.tracking import tracking
from pipeline.metrics.controls import shuffle_predictions
from pipeline.metrics.scores import ANSWERS, SCORES, measure
from pipeline.model.checkpoints import (
    Checkpoint,
    checkpoints_of_run,
    load_checkpoint,
    memory_of_checkpoint,
    save_scored,
)
from pipeline.params.schema import Params
from pipeline.retrieval.neighbors import Neighbors, Retriever

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluatePaths:
    """Where evaluation reads and writes."""

    checkpoints: Path = Path("data/checkpoints")
    features: Path = Path("data/features.h5")
    captions: Path = Path("data/captions.jsonl")
    memory: Path = Path("data/memory.h5")
    neighbors: Path = Path("data/neighbors.h5")
    predictions: Path = Path("data/predictions")
    best: Path = Path("data/best.safetensors")
    metrics: Path = Path("metrics/evaluate.json")
    scores: Path = Path("metrics/scores.json")
    curve: Path = Path("plots/epochs.csv")


def evaluate(paths: EvaluatePaths, settings: Params, execution: Execution) -> JsonObject:
    """Caption dev and test with every checkpoint, choose on dev, and write all outputs.

    An image without captions is scored by the answer to its first question. Each checkpoint is read once, the
    best one again at the end, and all are checked to be unchanged: scores, predictions and the chosen
    weights are of the same bytes. Returns the content of metrics/evaluate.json.
    """
    records = read_captions(paths.captions)
    splits = {split: select_split(records, split) for split in SPLITS}
    for split, members in splits.items():
        if not members:
            raise PipelineError(
                f"{paths.captions} has no image in the split {split}. Fix: run `dvc repro prepare`."
            )
    neighbors = Neighbors.read(paths.neighbors)
    train_ids = [record.image_id for record in splits["train"]]
    neighbors.require_train(train_ids, paths.neighbors, paths.captions)
    results: dict[int, EpochResult] = {}
    predictor: Predictor | None = None
    with FeatureStore(paths.features) as store:
        for checkpoint in checkpoints_of_run(paths.checkpoints):
            if predictor is None:
                _require_trained_features(store, paths, checkpoint, train_ids)
                uses_memory = checkpoint.info.memory or settings.generate.consensus
                memory = memory_of_checkpoint(checkpoint, paths.memory) if uses_memory else None
                retriever = Retriever(memory, neighbors) if memory else None
                predictor = Predictor(store, settings.generate, execution, retriever)
            results[checkpoint.info.epoch] = _evaluate_epoch(predictor, checkpoint, splits)
        scores = {epoch: result.scores["dev"] for epoch, result in results.items()}
        losses = {epoch: result.dev_loss for epoch, result in results.items()}
        epoch, choice = choose_epoch(scores, losses, settings.evaluate.select_by)
        best = results[epoch]
        chosen = load_checkpoint(best.file.path)
        assert predictor is not None  # a run has an epoch
        answers, answered = evaluate_answers(predictor, chosen, records)
    _track(results, best.info.training, execution)
    logger.info("scoring the controls")
    controls, consensus_images = control_captions(neighbors, records, execution.scratch)
    predictions = best.texts("test")
    if len(predictions) > 1:
        controls["shuffled"] = shuffle_predictions(predictions)
    metrics = evaluation_metrics(best, results, choice, controls, consensus_images, records)
    metrics |= {"answers": answers} if answers else {}
    for result in results.values():
        result.file.require_unchanged()
    _write_predictions(paths.predictions, results, answered)
    write_atomic(paths.curve, epochs_csv(metrics["by_epoch"]).encode())
    save_scored(paths.best, chosen, settings.generate)
    write_json(paths.metrics, metrics)
    write_json(paths.scores, summary_metrics(metrics))
    if metrics["test"]["bleu_4"] < 1e-4:
        logger.warning("BLEU-4 on test is 0: no prediction has a 4-gram in common with its references")
    return metrics


def _require_trained_features(
    store: FeatureStore, paths: EvaluatePaths, checkpoint: Checkpoint, train_ids: Sequence[str]
) -> None:
    """Raise PipelineError unless the train images have the features that a checkpoint was trained on.

    Images of other splits may come, go, or be mended.
    """
    path, info = checkpoint.file.path, checkpoint.info
    store.require_encoder(info.encoder, str(path))
    if store.digest(train_ids) != info.features:
        raise PipelineError(
            f"{path} was trained on other features than those of the {len(train_ids)} train images of "
            f"{paths.captions} in {paths.features}. Fix: run `dvc repro train`."
        )


def _evaluate_epoch(
    predictor: Predictor, checkpoint: Checkpoint, splits: Mapping[Split, Sequence[CaptionRecord]]
) -> EpochResult:
    predictions = {split: predictor.predict(checkpoint, split, splits[split]) for split in SCORED_SPLITS}
    references = {split: {r.image_id: r.texts for r in splits[split]} for split in SCORED_SPLITS}
    scores = {
        split: measure({i: p.text for i, p in predictions[split].items()}, references[split])
        for split in SCORED_SPLITS
    }
    loss = predictor.loss(checkpoint, splits["dev"])
    return EpochResult(checkpoint.info, checkpoint.file, predictions, scores, loss)


def _track(results: Mapping[int, EpochResult], training: str, execution: Execution) -> None:
    """Give loss and scores of each epoch to the run's trackers."""
    trackers, folder = execution.runtime.trackers, execution.scratch.parent
    with tracking(trackers, folder, "evaluate", training) as track:
        for epoch, result in results.items():
            numbers = {"dev/loss": result.dev_loss}
            for split in SCORED_SPLITS:
                scores = result.scores[split].scores()
                numbers |= {f"{split}/{name}": scores[name] for name in SCORES}
            track(numbers, epoch)


def _write_predictions(folder: Path, results: Mapping[int, EpochResult], answered: list[JsonObject]) -> None:
    with replace_folder(folder) as fresh:
        if answered:
            write_jsonl(fresh / ANSWERS, answered)
        for epoch, result in results.items():
            for split in SCORED_SPLITS:
                write_jsonl(
                    fresh / f"epoch_{epoch:03d}_{split}.jsonl",
                    ({"image_id": i, "caption": text} for i, text in sorted(result.texts(split).items())),
                )
