"""The loss in chunks is the loss of all labels at once."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pipeline.model.caption_loss import LABELS_AT_A_TIME, caption_loss, labels_that_fit

WIDTH, VOCABULARY = 6, 11


def task(labels: int, dtype: torch.dtype) -> tuple[Tensor, nn.Linear, Tensor]:
    """Return hidden states `[N, D_l]`, a head and labels `[N]`."""
    generator = torch.Generator().manual_seed(labels)
    hidden = torch.randn(labels, WIDTH, generator=generator).to(dtype).requires_grad_()
    head = nn.Linear(WIDTH, VOCABULARY, bias=False).requires_grad_(False).to(dtype)
    return hidden, head, torch.randint(VOCABULARY, (labels,), generator=generator)


def usual_loss(hidden: Tensor, head: nn.Linear, labels: Tensor) -> Tensor:
    return nn.functional.cross_entropy(head(hidden).float(), labels, reduction="sum")


@settings(max_examples=30)
@given(st.integers(1, 3 * LABELS_AT_A_TIME), st.floats(0.01, 1e5), st.sampled_from([LABELS_AT_A_TIME, 300]))
def test_value_and_gradient_equal_those_of_cross_entropy(count: int, upstream: float, at_a_time: int) -> None:
    hidden, head, labels = task(count, torch.float32)
    sizes: list[int] = []

    def counting_head(states: Tensor) -> Tensor:
        sizes.append(len(states))
        return head(states).float()  # type: ignore[no-any-return]

    expected, loss = usual_loss(hidden, head, labels), caption_loss(hidden, counting_head, labels, at_a_time)
    # All logits never exist at once.
    assert max(sizes) == min(count, at_a_time)
    torch.testing.assert_close(loss, expected)
    (wanted,), (gradient,) = (torch.autograd.grad(value * upstream, hidden) for value in (expected, loss))
    assert (gradient - wanted).norm() <= 1e-5 * wanted.norm()
    with torch.inference_mode():
        torch.testing.assert_close(caption_loss(hidden.detach(), counting_head, labels), expected.detach())


def test_unlikely_words_keep_their_gradient_in_half_precision() -> None:
    # 64 words of probability 3e-8 each, below the smallest number of half precision, all in one direction
    # from the hidden state: together they matter, unless the gradient of each is rounded to zero.
    hidden = torch.tensor([[1.0, 0.0]], dtype=torch.float16, requires_grad=True)  # [N, D_l]
    unlikely = torch.tensor([-17.3, 16.0]).expand(64, -1)
    weight = torch.cat([torch.zeros(1, 2), unlikely]).half()  # [V, D_l]
    loss = caption_loss(hidden, lambda states: (states @ weight.T).float(), torch.tensor([0]))
    (gradient,) = torch.autograd.grad(loss * 4096, hidden)
    expected = 4096 * 64 * 16.0 * torch.tensor(-17.3).half().float().exp()
    assert float(gradient[0, 1]) == pytest.approx(float(expected), rel=0.1)


def test_a_large_card_holds_the_logits_of_more_labels() -> None:
    eight, eighty = (labels_that_fit(gib * 2**30, vocabulary=128_256) for gib in (8, 80))
    assert LABELS_AT_A_TIME <= eight < 140
    assert eighty > 1000
    assert labels_that_fit(2**30, vocabulary=128_256) == LABELS_AT_A_TIME
