"""Several captions of one image in one sequence.

All captions of an image share its prefix (prompt and image embeddings). They follow it one after the other.
Each caption attends to the prefix and to itself, and its position ids continue from the prefix:

    prefix · caption 1 · caption 2 · ...

A conversation about an image is a branch like a caption, of questions, which carry no loss, and answers. Its
prefix ends with the image:

    prefix · question, answer · question, answer, question, answer · ...

Loss and gradient therefore equal those of separate sequences, with about a third of the tokens.

A prefix may have a context (captions of similar images), whose length differs from row to row. Contexts are
padded on the left: nothing attends to the padding, and no position id counts it.

B: rows, C: longest context, L: length of the prefix, S: longest row of captions, T = L + S, N: labels in the
batch, M: positions that predict a label.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

import torch
from torch import Tensor


@dataclass(frozen=True)
class PackedBatch:
    """Rows of captions after prefixes of equal length, padded on the right.

    Attributes:
        context_ids: `[B, C]`, token ids of the contexts (0 where padded).
        caption_ids: `[B, S]`, token ids after the prefix (0 where padded).
        positions: `[B, T]`, position ids.
        owners: `[B, T]`, what a position belongs to: 0 the prefix, 1.. the captions, -1 padding.
        predicting: `[M]`, the positions that predict a label, each once, as indices into the B·T positions of
            all rows: the last of a prefix predicts the first token of each of its captions.
        label_source: `[N]`, the index into `predicting` of the position that predicts a label.
        labels: `[N]`, the token ids to predict.
    """

    context_ids: Tensor
    caption_ids: Tensor
    positions: Tensor
    owners: Tensor
    predicting: Tensor
    label_source: Tensor
    labels: Tensor

    @property
    def mask(self) -> Tensor:
        """`[B, 1, T, T]`, true where a position (row) may attend to another (column).

        It is computed where the batch is: its bytes are T times those of `owners`.
        """
        length = self.owners.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=self.owners.device).tril()  # [T, T]
        column = self.owners.unsqueeze(1)  # [B, 1, T]
        mask = causal & ((self.owners.unsqueeze(2) == column) | (column == 0))  # [B, T, T]
        return mask.unsqueeze(1)

    def to(self, device: torch.device) -> "PackedBatch":
        """Copy the batch to a device."""
        return PackedBatch(**{k: v.to(device, non_blocking=True) for k, v in self.__dict__.items()})

    def pin_memory(self) -> "PackedBatch":
        """Copy the batch to page-locked memory."""
        return PackedBatch(**{k: v.pin_memory() for k, v in self.__dict__.items()})


def caption_labels(ids: Sequence[int], eos: int | None, truncated: bool) -> list[int]:
    """Return the tokens of a caption to predict: `ids`, and `eos` as its end.

    A truncated caption does not end where it was cut. With `eos=None` no caption has an end, and a model
    trained on them does not stop by itself.
    """
    return [*ids] if eos is None or truncated else [*ids, eos]


def pad_contexts(contexts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Pad contexts on the left: token ids `[B, C]`, and true `[B, C]` where a token is."""
    longest = max(map(len, contexts), default=0)
    ids = torch.tensor([[0] * (longest - len(row)) + [*row] for row in contexts], dtype=torch.long)
    lengths = torch.tensor([len(row) for row in contexts])
    return ids, torch.arange(longest) >= longest - lengths.unsqueeze(1)


def pack(
    rows: Sequence[Sequence[Sequence[int]]],
    prefix_length: int,
    contexts: Sequence[Sequence[int]] | None = None,
    context_start: int = 0,
    labeled: Sequence[Sequence[Sequence[bool]]] | None = None,
) -> PackedBatch:
    """Pack the captions of each row, as `caption_labels` returns them, after its prefix.

    Args:
        rows: the captions of each row, or more generally its branches.
        prefix_length: positions of the prefix without its context.
        contexts: the token ids of each row's context; None: without contexts.
        context_start: where in the prefix the contexts begin.
        labeled: for each token of `rows`, whether it is a label; None: all are.

    Labels are shifted here and nowhere else: position t predicts the token at t + 1, and the prefix's last
    position predicts the first token of each caption.
    """
    context_ids, is_context = pad_contexts(contexts or [()] * len(rows))  # [B, C]
    prefix_length += context_ids.shape[1]  # L
    longest = max(sum(map(len, row)) for row in rows)  # S
    length = prefix_length + longest  # T
    caption_ids = torch.zeros(len(rows), longest, dtype=torch.long)  # [B, S]
    positions = torch.arange(length).repeat(len(rows), 1)  # [B, T]
    owners = torch.full((len(rows), length), -1)  # [B, T]
    owners[:, :prefix_length] = 0
    stop = context_start + context_ids.shape[1]
    owners[:, context_start:stop].masked_fill_(~is_context, -1)
    sources: list[int] = []
    labels: list[int] = []
    for row, captions in enumerate(rows):
        start = prefix_length
        for number, caption in enumerate(captions, start=1):
            stop = start + len(caption)
            caption_ids[row, start - prefix_length : stop - prefix_length] = torch.tensor(caption)
            positions[row, start:stop] = torch.arange(prefix_length, prefix_length + len(caption))
            owners[row, start:stop] = number
            wanted = labeled[row][number - 1] if labeled else [True] * len(caption)
            places = [prefix_length - 1, *range(start, stop - 1)]
            sources.extend(row * length + place for place in compress(places, wanted))
            labels.extend(compress(caption, wanted))
            start = stop
    predicting, label_source = torch.unique(torch.tensor(sources), return_inverse=True)  # [M], [N]
    indices = predicting, label_source, torch.tensor(labels)
    # Padding of contexts has no position.
    positions[:, context_start:] -= (~is_context).sum(dim=1, keepdim=True)
    return PackedBatch(context_ids, caption_ids, positions.clamp(min=0), owners, *indices)
