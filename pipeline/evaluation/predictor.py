"""Captions of checkpoints for the images of a split, made once.

They are stored batch by batch in a scratch folder, under a digest of all that they follow from: one more
epoch costs one more evaluation, and a kill one batch.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from typing import Any

import torch
from torch import Tensor

from pipeline.captions import CaptionRecord, SimilarCaptions, Split
from pipeline.errors import PipelineError
from pipeline.features.store import FeatureStore
from pipeline.files.batched import batched
from pipeline.files.json_files import digest
from pipeline.files.prediction_cache import PredictionCache
from pipeline.hardware.execution import Execution
from pipeline.hardware.progress import bar
from pipeline.model.checkpoints import Checkpoint
from pipeline.model.feature_captioner import FeatureCaptioner, GeneratedCaption
from pipeline.model.generation import choose_rows, images_per_batch
from pipeline.params.schema import GenerateParams
from pipeline.result_code import EVALUATE
from pipeline.retrieval.neighbors import Retriever

logger = logging.getLogger(__name__)

# Images whose captions' loss is computed at a time: bounds what the layers hold.
_LOSS_ROWS = 8

Predictions = dict[str, GeneratedCaption]


class Predictor:
    """Captions and losses of checkpoints, from the scratch folder where they are known already."""

    def __init__(
        self,
        store: FeatureStore,
        generate: GenerateParams,
        execution: Execution,
        retriever: Retriever | None = None,
    ) -> None:
        """`retriever` knows what people said of similar images; None: neither prompt nor search uses it."""
        self._store = store
        self._retriever = retriever
        self._generate = generate
        self._execution = execution
        self._code = EVALUATE.digests()
        self._model: FeatureCaptioner | None = None
        # Every epoch asks for the digest of the same images' features.
        self._digest = cache(store.digest)

    def predict(self, checkpoint: Checkpoint, split: Split, records: Sequence[CaptionRecord]) -> Predictions:
        """Return a checkpoint's caption of each image of a split, or its answer where there is a question."""
        image_ids = [record.image_id for record in records]
        texts = self._texts(checkpoint, split, image_ids, [record.question for record in records])
        return dict(zip(image_ids, texts, strict=True))

    def answer(
        self, checkpoint: Checkpoint, title: str, image_ids: Sequence[str], questions: Sequence[str]
    ) -> list[str]:
        """Return a checkpoint's answer to a question about each image; images may occur several times.

        `title` names the questions in bars and log lines.
        """
        return [text.text for text in self._texts(checkpoint, title, image_ids, questions)]

    def _texts(
        self, checkpoint: Checkpoint, title: str, image_ids: Sequence[str], questions: Sequence[str | None]
    ) -> list[GeneratedCaption]:
        epoch = checkpoint.info.epoch
        asked = {"questions": list(questions)} if any(questions) else {}
        generate = asdict(self._generate)
        finished = self._finished(checkpoint, image_ids, len(image_ids), generate=generate, **asked)
        if missing := finished.missing:
            model = self._load(checkpoint)
            requested, tokens = self._execution.runtime.generate_batch_size, self._store.spec["num_tokens"]
            batch_size = choose_rows(requested, model.model, tokens)
            with bar(f"epoch {epoch} {title}", "texts", missing) as progress:
                # As many as are generated together, so that a run that continues has the batches of a run
                # that was never interrupted (but for `auto`, which follows the memory that is free).
                for places in finished.gaps(images_per_batch(self._generate, batch_size)):
                    batch = image_ids[places.start : places.stop]
                    features, similar = self._features(batch), self._similar(batch)
                    some = questions[places.start : places.stop]
                    captions = model.caption(features, self._generate, batch_size, similar, some)
                    rows = [{"caption": caption.text, "finished": caption.finished} for caption in captions]
                    finished.add(places.start, rows)
                    progress.update(len(batch))
            noun = "questions answered" if asked else "images captioned"
            logger.info("epoch %d, %s: %d %s", epoch, title, missing, noun)
        return [GeneratedCaption(row["caption"], row["finished"]) for row in finished.rows]

    def loss(self, checkpoint: Checkpoint, records: Sequence[CaptionRecord]) -> float:
        """Return a checkpoint's mean cross-entropy (nats a token) of what people wrote of each image.

        Raises PipelineError where it is not a number.
        """
        image_ids = [record.image_id for record in records]
        texts = digest([[record.question, record.texts] for record in records])
        finished = self._finished(checkpoint, image_ids, 1, texts=texts)
        if finished.missing:
            requested = self._execution.runtime.generate_batch_size
            rows = _LOSS_ROWS if requested == "auto" else min(_LOSS_ROWS, requested)
            batches = (
                (
                    self._features(ids := [record.image_id for record in batch]),
                    [record.texts for record in batch],
                    self._similar(ids),
                    [record.question for record in batch],
                )
                for batch in batched(records, rows)
            )
            loss = self._load(checkpoint).loss(batches)
            if not math.isfinite(loss):
                raise PipelineError(
                    f"The loss of {checkpoint.file.path} on dev is {loss} in "
                    f"{self._execution.placement.dtype}. Fix: train with a lower train.learning_rate, or on "
                    "a GPU with bfloat16."
                )
            finished.add(0, [{"loss": loss}])
        return float(finished.rows[0]["loss"])

    def _features(self, image_ids: Sequence[str]) -> Tensor:
        return torch.from_numpy(self._store.read(image_ids))  # [n, P, D_v]

    def _similar(self, image_ids: Sequence[str]) -> list[SimilarCaptions] | None:
        return None if self._retriever is None else self._retriever.similar(image_ids)

    def _finished(
        self, checkpoint: Checkpoint, image_ids: Sequence[str], count: int, **settings: Any
    ) -> PredictionCache:
        """Return what is finished of the work on a checkpoint and images with some settings."""
        origin = {
            "code": self._code,
            "checkpoint": checkpoint.file.sha256,
            "encoder": self._store.spec,
            "features": self._digest(tuple(image_ids)),
            "neighbors": self._retriever and self._retriever.neighbors.lookup(image_ids).tolist(),
            "memory": self._retriever and self._retriever.memory.digest,
            "dtype": str(self._execution.placement.dtype),
            **settings,
        }
        return PredictionCache(self._execution.scratch, origin, count)

    # Called when something is missing: if all is known, nothing has to be loaded.
    def _load(self, checkpoint: Checkpoint) -> FeatureCaptioner:
        if self._model is None:
            model_cache = self._execution.runtime.model_cache
            memory = self._retriever.memory if self._retriever else None
            self._model = FeatureCaptioner.load(checkpoint, self._execution.placement, model_cache, memory)
        elif self._model.info is not checkpoint.info:
            self._model.use_checkpoint(checkpoint)
        return self._model
