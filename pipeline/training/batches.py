"""What a training step reads: rows of captions behind their images, planned anew for each epoch.

B: rows of a batch, P: tokens of an image, D_v: width of the encoder.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from pipeline.hardware.processes import Processes
from pipeline.model.packing import PackedBatch, pack
from pipeline.params.schema import TrainParams
from pipeline.text.token_store import TokenizedCaptions
from pipeline.training.features import TrainingFeatures

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


@dataclass(frozen=True)
class Step:
    """What one process computes of an optimizer step.

    Attributes:
        batches: its micro-batches, as features `[B, P, D_v]` and packed captions.
        labels: how many labels the whole step has, in all micro-batches and processes.
    """

    batches: list[tuple[Tensor, PackedBatch]]
    labels: int

    def pin_memory(self) -> "Step":
        """The same step in page-locked memory."""
        return Step(
            [(features.pin_memory(), batch.pin_memory()) for features, batch in self.batches], self.labels
        )


class StepDataset:
    """The steps of an epoch, or of each step the share of one of several processes."""

    def __init__(
        self,
        features: TrainingFeatures,
        tokens: TokenizedCaptions,
        plan: list[list[list[Row]]],
        prefix_length: int,
        supervise_eos: bool,
        processes: Processes,
    ) -> None:
        self._features = features
        self._tokens = tokens
        self._plan = plan
        self._prefix_length = prefix_length
        self._eos = tokens.prompt.eos if supervise_eos else None
        self._processes = processes

    def __len__(self) -> int:
        return len(self._plan)

    def __getitem__(self, index: int) -> Step:
        batches = []
        labels = 0
        for rows in self._plan[index]:
            labels += sum(map(self._labels, rows))
            # Every so many-th of rows that are sorted by length: equal work for all processes.
            own = rows[self._processes.rank :: self._processes.count]
            if own:
                features = self._features.read([row.image for row in own])
                captions = [
                    [self._tokens.captions[row.image][c].tolist() for c in row.captions] for row in own
                ]
                batches.append((features, pack(captions, self._prefix_length, self._eos)))
        return Step(batches, labels)

    def _labels(self, row: Row) -> int:
        end = 0 if self._eos is None else 1
        return sum(len(self._tokens.captions[row.image][c]) + end for c in row.captions)
