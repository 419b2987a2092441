"""Cross-entropy over a large vocabulary, a few labels at a time.

The logits of N labels, `[N, V]` in float32, with their softmax and its gradient, would take more memory than
a small language model: 0.8 GB for 500 labels and Llama's vocabulary. The head is frozen, so the gradient of
its input is all that a chunk of the labels has to leave.

N: labels, D_l: width of the language model, V: vocabulary.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

# Labels whose logits exist at a time: enough for a matrix product of a CPU to run at full speed. A GPU takes
# more, as long as all that is kept of their logits is at most this share of its memory.
LABELS_AT_A_TIME = 128
_SHARE = 1 / 32
# Of a logit: the head's output, the same in float32, its log-softmax, and the gradients of the first two.
LOGIT_BYTES = 2 * 2 + 3 * 4
# In half precision the gradient of a logit, a probability, is below the smallest number for most words.
_HALF_SCALE = 2.0**10

Head = Callable[[Tensor], Tensor]


def labels_that_fit(memory: int, vocabulary: int) -> int:
    """Return how many labels' logits exist at a time on a GPU of `memory` bytes.

    All of its memory counts, not what is free: a run that is continued rounds as before.
    """
    return max(LABELS_AT_A_TIME, int(memory * _SHARE) // (vocabulary * LOGIT_BYTES))


def caption_loss(hidden: Tensor, head: Head, labels: Tensor, at_a_time: int = LABELS_AT_A_TIME) -> Tensor:
    """Sum the cross-entropy of the words that `head` predicts.

    Value and gradient equal those of `cross_entropy(head(hidden), labels, reduction="sum")`, except for
    rounding. No gradient reaches the head's weights.

    Args:
        hidden: `[N, D_l]`, the hidden states that predict.
        head: hidden states `[n, D_l]` -> logits `[n, V]`, float32.
        labels: `[N]`, token ids.
        at_a_time: labels whose logits exist at a time.
    """
    loss: Tensor = _ChunkedCrossEntropy.apply(hidden, head, labels, at_a_time)  # type: ignore[no-untyped-call]
    return loss


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Computes the gradient together with the value, while a chunk's logits exist."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Head, labels: Tensor, at_a_time: int) -> Tensor:
        with_gradient = ctx.needs_input_grad[0]
        scale = _HALF_SCALE if hidden.dtype == torch.float16 else 1.0
        wide = torch.promote_types(hidden.dtype, torch.float32)
        gradient = torch.empty_like(hidden, dtype=wide) if with_gradient else None  # [N, D_l]
        total = torch.zeros((), device=hidden.device)
        for start in range(0, len(hidden), at_a_time):
            chunk = slice(start, start + at_a_time)
            with torch.set_grad_enabled(with_gradient):
                states = hidden[chunk].detach().requires_grad_(with_gradient)  # [n, D_l]
                loss = functional.cross_entropy(head(states), labels[chunk], reduction="sum")
                total += loss.detach()
                if gradient is not None:
                    (chunk_gradient,) = torch.autograd.grad(loss * scale, states)
                    gradient[chunk] = chunk_gradient / scale
        ctx.save_for_backward(gradient)
        ctx.dtype = hidden.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * upstream[0]).to(ctx.dtype), None, None, None
