"""What a training step reads: rows of captions behind their images, planned anew for each epoch.

B: rows of a batch, P: tokens of an image, D_v: width of the encoder.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pipeline.feature_store import FeatureStore
from pipeline.packing import PackedBatch, pack
from pipeline.params import TrainParams
from pipeline.token_store import TokenizedCaptions

# Rows are sorted by length within pools of so many batches: little padding, and still random.
_BATCHES_PER_POOL = 16


@dataclass(frozen=True)
class Row:
    """One sequence: an image (index into the split) and some of its captions."""

    image: int
    captions: tuple[int, ...]


def plan_epoch(lengths: Sequence[Sequence[int]], params: TrainParams, epoch: int) -> list[list[list[Row]]]:
    """The epoch's optimizer steps, each a list of micro-batches, each a list of rows.

    Every caption of every image is in exactly one row. The order depends on seed and epoch alone, so a
    resumed run finds the same plan.

    Args:
        lengths: for each image, the length of each of its captions.
        params: `captions_per_pass`, `batch_size`, `gradient_accumulation_steps` and `seed` are used.
        epoch: from 1.
    """
    rng = np.random.default_rng([params.seed, epoch])
    rows = []
    for image, captions in enumerate(lengths):
        per_row = len(captions) if params.captions_per_pass == "all" else params.captions_per_pass
        order = rng.permutation(len(captions)).tolist()
        for start in range(0, len(order), per_row):
            rows.append(Row(image, tuple(order[start : start + per_row])))
    rows = [rows[index] for index in rng.permutation(len(rows))]
    pool = params.batch_size * _BATCHES_PER_POOL
    batches = []
    for start in range(0, len(rows), pool):
        pooled = sorted(
            rows[start : start + pool], key=lambda r: sum(lengths[r.image][c] for c in r.captions)
        )
        batches += [pooled[at : at + params.batch_size] for at in range(0, len(pooled), params.batch_size)]
    batches = [batches[index] for index in rng.permutation(len(batches))]
    together = params.gradient_accumulation_steps
    return [batches[start : start + together] for start in range(0, len(batches), together)]


class StepDataset(Dataset[list[tuple[Tensor, PackedBatch]]]):
    """The steps of an epoch: for each, its micro-batches as features `[B, P, D_v]` and packed captions.

    The feature store is opened on first use, once in each worker process: HDF5 handles survive neither
    pickling nor, reliably, a fork.
    """

    def __init__(
        self,
        features: Path,
        tokens: TokenizedCaptions,
        plan: list[list[list[Row]]],
        prefix_length: int,
        supervise_eos: bool,
    ) -> None:
        self._features = features
        self._tokens = tokens
        self._plan = plan
        self._prefix_length = prefix_length
        self._eos = tokens.prompt.eos if supervise_eos else None
        self._store: FeatureStore | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_store": None}

    def __len__(self) -> int:
        return len(self._plan)

    def __getitem__(self, index: int) -> list[tuple[Tensor, PackedBatch]]:
        if self._store is None:
            self._store = FeatureStore(self._features)
        step = []
        for rows in self._plan[index]:
            features = self._store.read([self._tokens.image_ids[row.image] for row in rows])
            captions = [[self._tokens.captions[row.image][c].tolist() for c in row.captions] for row in rows]
            step.append((torch.from_numpy(features), pack(captions, self._prefix_length, self._eos)))
        return step
