"""Captions of checkpoints for the images of a split, made once.

They are kept in a scratch folder under a digest of all that they follow from, so one more epoch costs one
more evaluation.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from pipeline.captions import Split
from pipeline.checkpoints import load_checkpoint
from pipeline.device import Placement
from pipeline.feature_store import FeatureStore
from pipeline.params import GenerateParams, RuntimeParams
from pipeline.progress import track
from pipeline.records import digest, read_jsonl, sha256_of_file, write_jsonl
from pipeline.trained_model import GeneratedCaption, TrainedModel

logger = logging.getLogger(__name__)

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
