"""Scores of every epoch on dev and test, the best epoch, and the controls that the scores need.

Predictions are kept in a scratch folder under a digest of all that they follow from, so one more epoch
costs one more evaluation.
"""

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.captions import CaptionRecord, Split, of_split, read_captions, vocabulary
from pipeline.checkpoints import list_checkpoints, load_checkpoint
from pipeline.device import Placement
from pipeline.feature_store import FeatureStore
from pipeline.metrics.controls import constant_caption, nearest_caption, shuffle_predictions
from pipeline.metrics.scene_truth import score_objects
from pipeline.metrics.scores import Scores, score
from pipeline.params import EvaluateParams, GenerateParams, RuntimeParams
from pipeline.progress import track
from pipeline.records import (
    digest,
    read_jsonl,
    sha256_of_file,
    write_atomic,
    write_json,
    write_jsonl,
)
from pipeline.trained_model import GeneratedCaption, TrainedModel

logger = logging.getLogger(__name__)

_SCORED: tuple[Split, ...] = ("dev", "test")
_CURVE_SCORES = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "cider", "rouge_l")
_SHUFFLE_SEED = 0

Predictions = dict[str, GeneratedCaption]


@dataclass(frozen=True)
class EvaluatePaths:
    """Where evaluation reads and writes."""

    checkpoints: Path
    features: Path
    captions: Path
    predictions: Path
    best: Path
    metrics: Path
    curve: Path
    scratch: Path


def evaluate(
    paths: EvaluatePaths,
    params: EvaluateParams,
    generate: GenerateParams,
    runtime: RuntimeParams,
    placement: Placement,
) -> dict[str, Any]:
    """Caption dev and test with every checkpoint, choose on dev, and write all outputs.

    Returns the content of metrics/evaluate.json.
    """
    records = read_captions(paths.captions)
    checkpoints = list_checkpoints(paths.checkpoints)
    references = {s: {r.image_id: r.captions for r in of_split(records, s)} for s in ("train", *_SCORED)}
    with FeatureStore(paths.features) as store:
        predictor = _Predictor(store, paths.scratch, generate, runtime, placement)
        predictions: dict[int, dict[Split, Predictions]] = {
            epoch: {s: predictor.predict(checkpoint, epoch, s, list(references[s])) for s in _SCORED}
            for epoch, checkpoint in checkpoints
        }
        nearest = _nearest(store, records)
    scores = {
        epoch: {s: score(_texts(of_epoch[s]), references[s]) for s in _SCORED}
        for epoch, of_epoch in predictions.items()
    }
    # The first of equals: less training for the same score.
    best = max(scores, key=lambda e: (getattr(scores[e]["dev"], params.select_by), -e))

    test = predictions[best]["test"]
    constant = constant_caption(references["train"])
    controls: dict[str, Scores] = {
        "constant": score(dict.fromkeys(test, constant), references["test"]),
        "nearest": score(nearest, references["test"]),
    }
    if len(test) > 1:
        shuffled = shuffle_predictions(_texts(test), _SHUFFLE_SEED)
        controls["shuffled"] = score(shuffled, references["test"])
    metrics: dict[str, Any] = {
        "best_epoch": best,
        "selected_by": params.select_by,
        "images": {s: len(references[s]) for s in _SCORED},
        "dev": scores[best]["dev"].as_dict(),
        "test": scores[best]["test"].as_dict(),
        "controls": {name: of.as_dict() for name, of in controls.items()},
        "constant_caption": constant,
        "distinct_captions": _share(len({p.text for p in test.values()}), len(test)),
        "cut_off": _share(sum(not p.finished for p in test.values()), len(test)),
    }
    truth = [(test[r.image_id].text, r.objects[0]) for r in of_split(records, "test") if len(r.objects) == 1]
    if truth:
        shapes, colors = vocabulary(records)
        metrics["scenes"] = score_objects(truth, shapes=shapes, colors=colors).as_dict()
    metrics["by_epoch"] = {
        str(epoch): {s: of_epoch[s].as_dict() for s in _SCORED} for epoch, of_epoch in scores.items()
    }
    _write(paths, predictions, scores, dict(checkpoints)[best], metrics)
    return metrics


class _Predictor:
    """Captions of a checkpoint for a split, from the scratch folder where they are known already."""

    def __init__(
        self,
        store: FeatureStore,
        scratch: Path,
        generate: GenerateParams,
        runtime: RuntimeParams,
        placement: Placement,
    ) -> None:
        self._store = store
        self._sha256 = dict(zip(store.image_ids, store.sha256, strict=True))
        self._scratch = scratch
        self._generate = generate
        self._runtime = runtime
        self._placement = placement
        self._model: TrainedModel | None = None

    def predict(self, checkpoint: Path, epoch: int, split: Split, image_ids: Sequence[str]) -> Predictions:
        _, info = load_checkpoint(checkpoint)
        self._store.require_encoder(info.encoder, str(checkpoint))
        features = torch.from_numpy(self._store.read(image_ids))  # [n, P, D_v]
        facts = {
            "checkpoint": sha256_of_file(checkpoint),
            "encoder": self._store.spec,
            "images": [(i, self._sha256[i]) for i in image_ids],
            "generate": asdict(self._generate),
            "dtype": str(self._placement.dtype),
        }
        kept = self._scratch / f"{digest(facts)[:32]}.jsonl"
        if kept.exists():
            return {
                row["image_id"]: GeneratedCaption(row["caption"], row["finished"])
                for _, row in read_jsonl(kept)
            }
        # Loaded at the first caption that is missing: with all of them known there is nothing to load.
        model = self._load(checkpoint)
        generated = model.caption(features, self._generate, self._runtime.generate_batch_size)
        captions = list(track(generated, f"epoch {epoch} {split}", total=len(features)))
        logger.info("epoch %d, %s: %d images captioned", epoch, split, len(captions))
        predictions = dict(zip(image_ids, captions, strict=True))
        write_jsonl(
            kept,
            ({"image_id": i, "caption": p.text, "finished": p.finished} for i, p in predictions.items()),
        )
        return predictions

    def _load(self, checkpoint: Path) -> TrainedModel:
        if self._model is None:
            cache = self._runtime.model_cache
            self._model = TrainedModel.load(checkpoint, self._placement, Path(cache) if cache else None)
        else:
            self._model.use_checkpoint(checkpoint)
        return self._model


def _nearest(store: FeatureStore, records: Sequence[CaptionRecord]) -> dict[str, str]:
    """For each test image, the first caption of the train image with the most similar mean feature."""
    train, test = of_split(records, "train"), of_split(records, "test")

    def vectors(of: Sequence[CaptionRecord]) -> np.ndarray:
        # Image by image: all features at once need not fit in memory.
        means = [store.read([r.image_id])[0].astype(np.float32).mean(axis=0) for r in of]
        return np.stack(means)  # [n, D_v]

    captions = nearest_caption(vectors(train), [r.captions for r in train], vectors(test))
    return {r.image_id: caption for r, caption in zip(test, captions, strict=True)}


def _texts(predictions: Mapping[str, GeneratedCaption]) -> dict[str, str]:
    return {image_id: prediction.text for image_id, prediction in predictions.items()}


def _share(count: int, of: int) -> float:
    return round(100 * count / of, 4)


def _write(
    paths: EvaluatePaths,
    predictions: Mapping[int, Mapping[Split, Predictions]],
    scores: Mapping[int, Mapping[Split, Scores]],
    best: Path,
    metrics: dict[str, Any],
) -> None:
    shutil.rmtree(paths.predictions, ignore_errors=True)
    for epoch, of_epoch in predictions.items():
        for split, of_split_ in of_epoch.items():
            write_jsonl(
                paths.predictions / f"epoch_{epoch:03d}_{split}.jsonl",
                ({"image_id": i, "caption": p.text} for i, p in sorted(of_split_.items())),
            )
    columns = [f"{split}_{name}" for split in _SCORED for name in _CURVE_SCORES]
    lines = [",".join(["epoch", *columns])]
    for epoch, of_scores in sorted(scores.items()):
        values = [getattr(of_scores[split], name) for split in _SCORED for name in _CURVE_SCORES]
        lines.append(",".join([str(epoch), *(f"{v:.4f}" for v in values)]))
    write_atomic(paths.curve, ("\n".join(lines) + "\n").encode())
    write_atomic(paths.best, best.read_bytes())
    write_json(paths.metrics, metrics)
    if metrics["test"]["bleu_4"] == 0:
        logger.warning("BLEU-4 on test is 0: the captions share no four words with any reference")
