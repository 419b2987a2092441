"""Captions of checkpoints for the images of a split, made once.

They are kept in a scratch folder under a digest of all that they follow from, so one more epoch costs one
more evaluation.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from pipeline.captions import Split
from pipeline.checkpoints import load_checkpoint
from pipeline.device import Placement
from pipeline.feature_store import FeatureStore
from pipeline.params import GenerateParams, RuntimeParams
from pipeline.progress import track
from pipeline.records import digest, read_json, read_jsonl, sha256_of_file, write_json, write_jsonl
from pipeline.trained_model import GeneratedCaption, TrainedModel

logger = logging.getLogger(__name__)

# Raise when a change of the code makes other captions or losses from the same facts.
_ALGORITHM = 1
# Images whose captions' logits are computed at a time: a quarter of a GiB for a vocabulary of 128,000.
_LOSS_ROWS = 8

Predictions = dict[str, GeneratedCaption]


class Predictor:
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
        """The caption of each image by the checkpoint of an epoch."""
        info = load_checkpoint(checkpoint).info
        self._store.require_encoder(info.encoder, str(checkpoint))
        kept = self._kept(checkpoint, image_ids, generate=asdict(self._generate)).with_suffix(".jsonl")
        if kept.exists():
            return {
                row["image_id"]: GeneratedCaption(row["caption"], row["finished"])
                for _, row in read_jsonl(kept)
            }
        features = torch.from_numpy(self._store.read(image_ids))  # [n, P, D_v]
        model = self._load(checkpoint)
        generated = model.caption(features, self._generate, self._runtime.generate_batch_size)
        captions = list(track(generated, f"epoch {epoch} {split}", total=len(features)))
        logger.info("epoch %d, %s: %d images captioned", epoch, split, len(captions))
        predictions: Predictions = dict(zip(image_ids, captions, strict=True))
        write_jsonl(
            kept,
            ({"image_id": i, "caption": p.text, "finished": p.finished} for i, p in predictions.items()),
        )
        return predictions

    def loss(self, checkpoint: Path, references: Mapping[str, Sequence[str]]) -> float:
        """Mean cross-entropy (nats a token) of what people wrote of each image, under a checkpoint."""
        kept = self._kept(checkpoint, list(references), captions=digest(references)).with_suffix(".json")
        if kept.exists():
            return float(read_json(kept)["loss"])
        features = torch.from_numpy(self._store.read(list(references)))  # [n, P, D_v]
        model = self._load(checkpoint)
        rows = min(_LOSS_ROWS, self._runtime.generate_batch_size)
        loss = model.loss(features, list(references.values()), rows)
        write_json(kept, {"loss": loss})
        return loss

    def _kept(self, checkpoint: Path, image_ids: Sequence[str], **facts: Any) -> Path:
        """The scratch file of what follows from a checkpoint, images and other facts."""
        all_facts = {
            "algorithm": _ALGORITHM,
            "checkpoint": sha256_of_file(checkpoint),
            "encoder": self._store.spec,
            "images": [(i, self._sha256[i]) for i in image_ids],
            "dtype": str(self._placement.dtype),
            **facts,
        }
        return self._scratch / digest(all_facts)[:32]

    # Called at the first thing that is missing: with all of them known there is nothing to load.
    def _load(self, checkpoint: Path) -> TrainedModel:
        if self._model is None:
            cache = self._runtime.model_cache
            self._model = TrainedModel.load(checkpoint, self._placement, Path(cache) if cache else None)
        else:
            self._model.use_checkpoint(checkpoint)
        return self._model
