"""Scores of every epoch on dev and test, the best epoch, and the controls that the scores need."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.captions import CaptionRecord, Split, of_split, read_captions, vocabulary
from pipeline.errors import PipelineError
from pipeline.evaluation.predictor import Predictions, Predictor
from pipeline.evaluation.summary_metrics import summary_metrics
from pipeline.features.digest import features_digest
from pipeline.features.store import FeatureStore
from pipeline.files.atomic import replace_folder
from pipeline.files.json_files import write_atomic, write_json, write_jsonl
from pipeline.files.unchanged_files import UnchangedFiles
from pipeline.hardware.execution import Execution
from pipeline.metrics.bootstrap import difference_intervals, intervals
from pipeline.metrics.colors import score_colors
from pipeline.metrics.controls import constant_caption, nearest_caption, shuffle_predictions
from pipeline.metrics.scene_truth import score_objects
from pipeline.metrics.scores import SCORES, Measured, measure
from pipeline.model.checkpoints import checkpoints_of_run, list_checkpoints, load_checkpoint
from pipeline.params.schema import Params

logger = logging.getLogger(__name__)

_SCORED: tuple[Split, ...] = ("dev", "test")
_SHUFFLE_SEED = 0


@dataclass(frozen=True)
class EvaluatePaths:
    """Where evaluation reads and writes."""

    checkpoints: Path
    features: Path
    captions: Path
    predictions: Path
    best: Path
    metrics: Path
    scores: Path
    curve: Path


def evaluate(paths: EvaluatePaths, settings: Params, execution: Execution) -> dict[str, Any]:
    """Caption dev and test with every checkpoint, choose on dev, and write all outputs.

    Returns the content of metrics/evaluate.json.
    """
    params = settings.evaluate
    records = read_captions(paths.captions)
    # Before any is read: scores, predictions and the chosen file must all be of the same bytes.
    files = UnchangedFiles(path for _, path in list_checkpoints(paths.checkpoints))
    checkpoints = checkpoints_of_run(paths.checkpoints)
    references: dict[Split, dict[str, tuple[str, ...]]] = {
        s: {r.image_id: r.captions for r in of_split(records, s)} for s in ("train", *_SCORED)
    }
    for split, of_split_ in references.items():
        if not of_split_:
            raise PipelineError(
                f"{paths.captions} has no image in the split {split}; run `dvc repro prepare`."
            )
    with FeatureStore(paths.features) as store:
        _require_trained_features(store, paths, checkpoints[min(checkpoints)], list(references["train"]))
        predictor = Predictor(store, files, settings.generate, execution)
        predictions: dict[int, dict[Split, Predictions]] = {
            epoch: {s: predictor.predict(checkpoint, epoch, s, list(references[s])) for s in _SCORED}
            for epoch, checkpoint in checkpoints.items()
        }
        losses = {
            epoch: predictor.loss(checkpoint, references["dev"]) for epoch, checkpoint in checkpoints.items()
        }
        nearest = _nearest(store, records)
    measured = {
        epoch: {s: measure(_texts(of_epoch[s]), references[s]) for s in _SCORED}
        for epoch, of_epoch in predictions.items()
    }
    scores = {epoch: {s: of_epoch[s].scores() for s in _SCORED} for epoch, of_epoch in measured.items()}
    # Of equals, as where no caption shares four words with a reference, the one with the lower loss. BLEU is
    # never quite 0 there; equal is what the metrics show as equal.
    chosen_by = {e: scores[e]["dev"].as_dict()[params.select_by] for e in scores}
    ranked = sorted(scores, key=lambda e: (-chosen_by[e], losses[e], e))
    best = ranked[0]
    metrics: dict[str, Any] = {
        "best_epoch": best,
        # With the epoch it says which checkpoint the scores are of.
        "training": load_checkpoint(checkpoints[best]).info.training,
        "selected_by": params.select_by,
        **_choice({e: measured[e]["dev"] for e in ranked}, params.select_by),
        "images": {s: len(references[s]) for s in _SCORED},
        "dev": scores[best]["dev"].as_dict(),
        "test": scores[best]["test"].as_dict(),
        "intervals": {
            s: {name: of.as_dict() for name, of in intervals(measured[best][s]).items()} for s in _SCORED
        },
        **_controls(_texts(predictions[best]["test"]), measured[best]["test"], nearest, references),
        **_habits(predictions[best]["test"]),
    }
    single = [r for r in of_split(records, "test") if len(r.objects) == 1]
    if single:
        shapes, colors = vocabulary(records)
        truth = [(predictions[best]["test"][r.image_id].text, r.objects[0]) for r in single]
        metrics["scenes"] = score_objects(truth, shapes=shapes, colors=colors).as_dict()
    metrics["by_epoch"] = {
        str(epoch): {"dev_loss": round(losses[epoch], 4), **{s: of_epoch[s].as_dict() for s in _SCORED}}
        for epoch, of_epoch in scores.items()
    }
    chosen = checkpoints[best].read_bytes()
    for path in checkpoints.values():
        files.require_same(path)
    _write_predictions(paths.predictions, predictions)
    _write_curve(paths.curve, metrics["by_epoch"])
    write_atomic(paths.best, chosen)
    write_json(paths.metrics, metrics)
    write_json(paths.scores, summary_metrics(metrics))
    if metrics["test"]["bleu_4"] < 1e-4:
        logger.warning("BLEU-4 on test is 0: the captions share no four words with any reference")
    return metrics


def _require_trained_features(
    store: FeatureStore, paths: EvaluatePaths, checkpoint: Path, image_ids: Sequence[str]
) -> None:
    """PipelineError unless the train images have the features that a checkpoint was trained on.

    Images of other splits are none of its business: some may come, go, or be mended.
    """
    info = load_checkpoint(checkpoint).info
    store.require_encoder(info.encoder, str(checkpoint))
    found = features_digest(store, image_ids)
    if found != info.features:
        raise PipelineError(
            f"the features of the {len(image_ids)} train images of {paths.captions} in {paths.features} "
            f"(sha256 {found:.12}) are not those that {checkpoint} was trained on ({info.features:.12}); "
            "run `dvc repro train`."
        )


def _choice(ranked: Mapping[int, Measured], select_by: str) -> dict[str, Any]:
    """How far the best epoch leads the next best on dev; empty where there is only one."""
    if len(ranked) < 2:
        return {}
    (_, first), (next_best, second), *_ = ranked.items()
    lead = difference_intervals(first, second)[select_by]
    by = getattr(first.scores(), select_by) - getattr(second.scores(), select_by)
    return {
        "choice": {
            "next_best_epoch": next_best,
            "lead": round(by, 4) + 0.0,  # no -0.0
            **lead.as_dict(),
            # An interval that holds 0: with other images the order could be the other way round.
            "distinguishable": lead.low > 0,
        }
    }


def _controls(
    test: Mapping[str, str],
    model: Measured,
    nearest: Mapping[str, str],
    references: Mapping[Split, Mapping[str, Sequence[str]]],
) -> dict[str, Any]:
    """Scores of captions that no look at the image was needed for, and the colours said.

    `behind`: by how much CIDEr-D they are behind the model's, with the 95 % interval.
    """
    constant = constant_caption(references["train"])
    said = {"constant": dict.fromkeys(test, constant), "nearest": dict(nearest)}
    if len(test) > 1:
        said["shuffled"] = shuffle_predictions(test, _SHUFFLE_SEED)
    colors = {"model": test, **said}
    controls: dict[str, Any] = {}
    reached = model.scores().cider
    for name, of in said.items():
        control = measure(of, references["test"])
        scores = control.scores()
        within = difference_intervals(model, control)["cider"].as_dict()
        by = round(reached - scores.cider, 4)
        controls[name] = {**scores.as_dict(), "behind": {"cider": by, **within}}
    return {
        "controls": controls,
        "constant_caption": constant,
        "colors": {name: score_colors(of, references["test"]).as_dict() for name, of in colors.items()},
    }


def _habits(predictions: Predictions) -> dict[str, float]:
    """In per cent of the captions: different ones, those cut off at the length limit, and empty ones."""
    captions = predictions.values()

    def share(count: int) -> float:
        return round(100 * count / len(captions), 4)

    return {
        "distinct_captions": share(len({p.text for p in captions})),
        "cut_off": share(sum(not p.finished for p in captions)),
        "empty": share(sum(not p.text for p in captions)),
    }


def _nearest(store: FeatureStore, records: Sequence[CaptionRecord]) -> dict[str, str]:
    """For each test image, the first caption of the train image with the most similar mean feature.

    Each channel is standardised over train first: what all images share would hide what tells them apart.
    """
    train, test = of_split(records, "train"), of_split(records, "test")

    def vectors(of: Sequence[CaptionRecord]) -> NDArray[np.float32]:
        # Image by image: all features at once need not fit in memory.
        means = [store.read([r.image_id])[0].astype(np.float32).mean(axis=0) for r in of]
        return np.stack(means)  # [n, D_v]

    known = vectors(train)
    center, scale = known.mean(axis=0), known.std(axis=0)
    scale[scale == 0] = 1

    captions = nearest_caption(
        (known - center) / scale, [r.captions for r in train], (vectors(test) - center) / scale
    )
    return {r.image_id: caption for r, caption in zip(test, captions, strict=True)}


def _texts(predictions: Predictions) -> dict[str, str]:
    return {image_id: prediction.text for image_id, prediction in predictions.items()}


def _write_predictions(folder: Path, predictions: Mapping[int, Mapping[Split, Predictions]]) -> None:
    with replace_folder(folder) as fresh:
        for epoch, of_epoch in predictions.items():
            for split, of_split_ in of_epoch.items():
                write_jsonl(
                    fresh / f"epoch_{epoch:03d}_{split}.jsonl",
                    ({"image_id": i, "caption": p.text} for i, p in sorted(of_split_.items())),
                )


def _write_curve(path: Path, by_epoch: Mapping[str, Any]) -> None:
    lines = [",".join(["epoch", "dev_loss", *(f"{split}_{name}" for split in _SCORED for name in SCORES)])]
    for epoch, of_epoch in by_epoch.items():
        values = [of_epoch[split][name] for split in _SCORED for name in SCORES]
        lines.append(",".join([epoch, *(f"{v:.4f}" for v in (of_epoch["dev_loss"], *values))]))
    write_atomic(path, ("\n".join(lines) + "\n").encode())
