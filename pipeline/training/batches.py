"""What a training step reads: rows of captions after their images, planned for each epoch.

B: rows of a batch, P: tokens of an image, D_v: width of the encoder.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipeline.files.batched import batched
from pipeline.hardware.processes import Processes
from pipeline.model.packing import PackedBatch, caption_labels, pack
from pipeline.params.schema import TrainParams
from pipeline.retrieval.neighbors import Neighbors
from pipeline.text.prompt import Prompt
from pipeline.text.token_store import TokenizedCaptions
from pipeline.training.features import TrainingFeatures

# Rows are sorted by length within pools of this many batches: little padding, and still random.
_BATCHES_PER_POOL = 16


@dataclass(frozen=True)
class TrainingData:
    """The features and the captions of the training images, in the same order.

    Attributes:
        neighbors: `[n, K]`, for each image the images whose captions its prompt shows, the nearest first (-1
            where there are too few); None: the prompt shows none.
        memory: the digest of the memory whose rows they are.
    """

    features: TrainingFeatures
    tokens: TokenizedCaptions
    neighbors: NDArray[np.int32] | None = None
    memory: str | None = None

    @cached_property
    def prompt(self) -> Prompt:
        """The words around every image: where images have questions, the instruction is not one of them.

        It then stands at the end of the context of those rows that hold captions.
        """
        prompt = self.tokens.prompt
        return replace(prompt, after=()) if any(self.tokens.conversations) else prompt

    @cached_property
    def lengths(self) -> list[list[int]]:
        """For each image, the number of tokens of each branch: its captions, then its conversations.

        EOS counts; a truncated caption has none.
        """
        captions = zip(self.tokens.captions, self.tokens.truncated, self.tokens.conversations, strict=True)
        return [
            [len(ids) + (not is_cut) for ids, is_cut in zip(texts, truncated, strict=True)]
            + [len(branch.ids) for branch in conversations]
            for texts, truncated, conversations in captions
        ]

    @property
    def caption_counts(self) -> list[int]:
        """For each image, the number of its captions."""
        return [len(captions) for captions in self.tokens.captions]

    def branch(self, image: int, index: int, eos: int | None) -> tuple[list[int], list[bool]]:
        """The tokens of a branch of an image, and which of them are labels; `eos=None`: no end is."""
        captions = self.tokens.captions[image]
        if index >= len(captions):
            conversation = self.tokens.conversations[image][index - len(captions)]
            wanted = conversation.labeled
            if eos is None:
                wanted = wanted & (conversation.ids != self.tokens.prompt.eos)
            return conversation.ids.tolist(), wanted.tolist()
        labels = caption_labels(captions[index].tolist(), eos, self.tokens.truncated[image][index])
        return labels, [True] * len(labels)

    @property
    def longest_caption(self) -> int:
        """The tokens of the longest caption, its end included; without captions, of the longest answer."""
        pairs = zip(self.lengths, self.caption_counts, strict=True)
        return max((n for lengths, count in pairs for n in lengths[:count]), default=self.longest_answer)

    @property
    def longest_answer(self) -> int:
        """The tokens of the longest answer, its end included; 0 without questions."""
        branches = (branch for image in self.tokens.conversations for branch in image)
        # An answer lies between two tokens without a label, or behind the last one.
        gaps = (np.diff(np.flatnonzero(~b.labeled), append=len(b.ids)).max() - 1 for b in branches)
        return int(max(gaps, default=0))

    @property
    def prefix_length(self) -> int:
        """Positions before the branches: prompt and image, and the longest context."""
        prompt = self.tokens.prompt
        return prompt.prefix_length(self.features.spec["num_tokens"]) + prompt.longest_context

    def context(self, image: int, seed: Sequence[int]) -> list[int]:
        """The context of an image: one caption, drawn by the seed, of each neighbor."""
        if self.neighbors is None:
            return []
        rng = np.random.default_rng([*seed, image])
        captions = []
        for row in self.neighbors[image][self.neighbors[image] >= 0]:
            if not self.tokens.captions[row]:
                continue
            caption = int(rng.integers(len(self.tokens.captions[row])))
            if not self.tokens.truncated[row][caption]:
                captions.append(self.tokens.captions[row][caption].tolist())
        return self.prompt.context(captions)


def read_neighbors(path: Path, tokens: TokenizedCaptions) -> tuple[NDArray[np.int32] | None, str | None]:
    """The images whose captions each image's prompt shows, `[n, K]`, and the digest of their memory.

    None and None where the prompt shows none.
    """
    count = tokens.spec.get("similar_captions", 0)
    if not count:
        return None, None
    neighbors = Neighbors.read(path)
    neighbors.require_train(tokens.image_ids, path, "the tokens")
    return neighbors.lookup(tokens.image_ids)[:, :count], neighbors.memory


@dataclass(frozen=True)
class Row:
    """A sequence: an image (index into the split) and some of its branches (indices into the image's).

    They are captions or conversations, not both: captions share the instruction, conversations share nothing
    but the image.
    """

    image: int
    captions: tuple[int, ...]


Plan = list[list[list[Row]]]


def plan_epoch(
    lengths: Sequence[Sequence[int]], params: TrainParams, epoch: int, captions: Sequence[int] | None = None
) -> Plan:
    """Plan an epoch's optimizer steps, each a list of micro-batches, each a list of rows.

    Every branch of every image is in exactly one row. The plan depends on lengths, parameters and epoch
    alone, so a resumed run finds the same plan.

    Args:
        lengths: for each image, the length of each of its branches, captions first.
        params: `captions_per_sequence`, `batch_size`, `gradient_accumulation_steps` and `seed` are used.
        epoch: from 1.
        captions: for each image, how many of its branches are captions; None: all are.
    """
    rng = np.random.default_rng([params.seed, epoch])
    rows: list[Row] = []
    for image, branches in enumerate(lengths):
        count = len(branches) if captions is None else captions[image]
        for part in (range(count), range(count, len(branches))):
            if part:
                per_row = len(part) if params.captions_per_sequence == "all" else params.captions_per_sequence
                order = rng.permutation(part).tolist()
                rows += [Row(image, tuple(chosen)) for chosen in batched(order, per_row)]
    rows = [rows[index] for index in rng.permutation(len(rows))]
    batches: list[list[Row]] = []
    for pool in batched(rows, params.batch_size * _BATCHES_PER_POOL):
        by_length = sorted(pool, key=lambda row: _caption_tokens(row, lengths))
        batches += batched(by_length, params.batch_size)
    batches = [batches[index] for index in rng.permutation(len(batches))]
    return list(batched(batches, params.gradient_accumulation_steps))


def _caption_tokens(row: Row, lengths: Sequence[Sequence[int]]) -> int:
    return sum(lengths[row.image][caption] for caption in row.captions)


def largest_batch(plan: Plan, data: TrainingData) -> list[Row]:
    """Find the micro-batch of a plan with the most positions, padding included."""

    def positions(rows: list[Row]) -> int:
        longest = max(_caption_tokens(row, data.lengths) for row in rows)
        return len(rows) * (data.prefix_length + longest)

    return max((rows for step in plan for rows in step), key=positions)


@dataclass(frozen=True)
class Step:
    """The share of one process in an optimizer step.

    Attributes:
        batches: its micro-batches, as features `[B, P, D_v]` and packed captions.
        labels: the number of labels of the whole step, in all micro-batches and processes.
    """

    batches: list[tuple[Tensor, PackedBatch]]
    labels: int

    def pin_memory(self) -> "Step":
        """Copy the step to page-locked memory."""
        pinned = [(features.pin_memory(), batch.pin_memory()) for features, batch in self.batches]
        return Step(pinned, self.labels)


class StepDataset:
    """The steps of a plan, each as the share of this process."""

    def __init__(
        self, data: TrainingData, plan: Plan, params: TrainParams, epoch: int, processes: Processes
    ) -> None:
        """Use the plan of `epoch`; `supervise_eos` and `seed` of `params`."""
        self._data = data
        self._plan = plan
        self._eos = data.tokens.prompt.eos if params.supervise_eos else None
        self._seed = params.seed, epoch
        self._processes = processes

    def __len__(self) -> int:
        return len(self._plan)

    def __getitem__(self, index: int) -> Step:
        batches = []
        labels = 0
        for rows in self._plan[index]:
            branches = [[self._data.branch(row.image, b, self._eos) for b in row.captions] for row in rows]
            labels += sum(sum(labeled) for row_branches in branches for _, labeled in row_branches)
            # Each process takes every `count`-th row; rows are sorted by length, so the work is equal.
            share = slice(self._processes.rank, None, self._processes.count)
            if rows[share]:
                features = self._data.features.read([row.image for row in rows[share]])
                batches.append((features, self._pack(rows[share], branches[share])))
        return Step(batches, labels)

    def _pack(
        self, rows: Sequence[Row], branches: Sequence[Sequence[tuple[list[int], list[bool]]]]
    ) -> PackedBatch:
        prompt, num_tokens = self._data.prompt, self._data.features.spec["num_tokens"]
        instruction = self._data.tokens.prompt.after[len(prompt.after) :]
        contexts = [self._data.context(row.image, self._seed) for row in rows]
        for row, context in zip(rows, contexts, strict=True):
            if row.captions[0] < len(self._data.tokens.captions[row.image]):  # not a conversation
                context += instruction
        return pack(
            [[ids for ids, _ in row_branches] for row_branches in branches],
            prompt.prefix_length(num_tokens),
            contexts,
            prompt.context_start(num_tokens),
            [[labeled for _, labeled in row_branches] for row_branches in branches],
        )
