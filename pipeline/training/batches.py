"""What a training step reads: rows of captions behind their images, planned anew for each epoch.

B: rows of a batch, P: tokens of an image, D_v: width of the encoder.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import Tensor

from pipeline.hardware.processes import Processes
from pipeline.model.packing import PackedBatch, caption_labels, pack
from pipeline.params.schema import TrainParams
from pipeline.text.token_store import TokenizedCaptions
from pipeline.training.features import TrainingFeatures

# Rows are sorted by length within pools of so many batches: little padding, and still random.
_BATCHES_PER_POOL = 16


@dataclass(frozen=True)
class TrainingData:
    """What a run trains on: the features and the captions of the same images, in the same order."""

    features: TrainingFeatures
    tokens: TokenizedCaptions

    @cached_property
    def lengths(self) -> list[list[int]]:
        """For each image, the tokens of each caption, its end included, which a truncated one lacks."""
        return [
            [len(ids) + (not is_cut) for ids, is_cut in zip(captions, truncated, strict=True)]
            for captions, truncated in zip(self.tokens.captions, self.tokens.truncated, strict=True)
        ]

    @property
    def prefix_length(self) -> int:
        """Positions in front of the captions: prompt and image."""
        return self.tokens.prompt.prefix_length(self.features.spec["num_tokens"])


@dataclass(frozen=True)
class Row:
    """One sequence: an image (index into the split) and some of its captions."""

    image: int
    captions: tuple[int, ...]


Plan = list[list[list[Row]]]


def plan_epoch(lengths: Sequence[Sequence[int]], params: TrainParams, epoch: int) -> Plan:
    """Plan an epoch's optimizer steps, each a list of micro-batches, each a list of rows.

    Every caption of every image is in exactly one row. The order depends on seed and epoch alone, so a
    resumed run finds the same plan.

    Args:
        lengths: for each image, the length of each of its captions.
        params: `captions_per_sequence`, `batch_size`, `gradient_accumulation_steps` and `seed` are used.
        epoch: from 1.
    """
    rng = np.random.default_rng([params.seed, epoch])
    rows = []
    for image, captions in enumerate(lengths):
        per_row = len(captions) if params.captions_per_sequence == "all" else params.captions_per_sequence
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


def largest_batch(plan: Plan, data: TrainingData) -> list[Row]:
    """The micro-batch of a plan with the most positions, padding included."""

    def positions(rows: list[Row]) -> int:
        longest = max(sum(data.lengths[row.image][c] for c in row.captions) for row in rows)
        return len(rows) * (data.prefix_length + longest)

    return max((rows for step in plan for rows in step), key=positions)


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
        pinned = [(features.pin_memory(), batch.pin_memory()) for features, batch in self.batches]
        return Step(pinned, self.labels)


class StepDataset:
    """The steps of a plan; of each step, the share of one of several processes."""

    def __init__(self, data: TrainingData, plan: Plan, supervise_eos: bool, processes: Processes) -> None:
        self._data = data
        self._plan = plan
        self._eos = data.tokens.prompt.eos if supervise_eos else None
        self._processes = processes

    def __len__(self) -> int:
        return len(self._plan)

    def __getitem__(self, index: int) -> Step:
        batches = []
        labels = 0
        for rows in self._plan[index]:
            captions = [[self._labels(row.image, c) for c in row.captions] for row in rows]
            labels += sum(len(caption) for of_row in captions for caption in of_row)
            # Rows are sorted by length: every `count`-th row gives all processes equal work.
            own = slice(self._processes.rank, None, self._processes.count)
            if rows[own]:
                features = self._data.features.read([row.image for row in rows[own]])
                batches.append((features, pack(captions[own], self._data.prefix_length)))
        return Step(batches, labels)

    def _labels(self, image: int, caption: int) -> list[int]:
        tokens = self._data.tokens
        ids: list[int] = tokens.captions[image][caption].tolist()
        return caption_labels(ids, self._eos, tokens.truncated[image][caption])
