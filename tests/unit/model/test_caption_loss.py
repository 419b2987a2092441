"""The loss in pieces is the loss in one."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pipeline.model.caption_loss import LABELS_AT_A_TIME, caption_loss

WIDTH, VOCABULARY = 6, 11


def task(labels: int, dtype: torch.dtype) -> tuple[Tensor, nn.Linear, Tensor]:
    generator = torch.Generator().manual_seed(labels)
    hidden = torch.randn(labels, WIDTH, generator=generator).to(dtype).requires_grad_()  # [N, D_l]
    head = nn.Linear(WIDTH, VOCABULARY, bias=False).requires_grad_(False).to(dtype)
    return hidden, head, torch.randint(VOCABULARY, (labels,), generator=generator)


def in_one(hidden: Tensor, head: nn.Linear, labels: Tensor) -> Tensor:
    return nn.functional.cross_entropy(head(hidden).float(), labels, reduction="sum")


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 3 * LABELS_AT_A_TIME), st.floats(0.01, 1e5))
def test_value_and_gradient_equal_those_of_cross_entropy(count: int, upstream: float) -> None:
    hidden, head, labels = task(count, torch.float32)
    expected = in_one(hidden, head, labels)
    (of_expected,) = torch.autograd.grad(expected * upstream, hidden)
    found = caption_loss(hidden, lambda states: head(states).float(), labels)
    (of_found,) = torch.autograd.grad(found * upstream, hidden)
    torch.testing.assert_close(found, expected)
    assert (of_found - of_expected).norm() <= 1e-5 * of_expected.norm()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_loses_no_more_than_its_own_rounding(dtype: torch.dtype) -> None:
    hidden, head, labels = task(200, dtype)
    (expected,) = torch.autograd.grad(in_one(hidden.float(), head.float(), labels), hidden)
    head = head.to(dtype)
    loss = caption_loss(hidden, lambda states: head(states).float(), labels)
    (found,) = torch.autograd.grad(loss, hidden)
    assert found.dtype == dtype
    error = (found.float() - expected.float()).norm() / expected.float().norm()
    assert error < 4 * torch.finfo(dtype).eps


def test_unlikely_words_keep_their_gradient_in_half_precision() -> None:
    # 64 words of probability 3e-8 each, below the smallest number of half precision, all one way from the
    # hidden state: together they pull at it measurably, unless each one's gradient is rounded to nothing.
    hidden = torch.tensor([[1.0, 0.0]], dtype=torch.float16, requires_grad=True)  # [N, D_l]
    unlikely = torch.tensor([-17.3, 16.0]).expand(64, -1)
    weight = torch.cat([torch.zeros(1, 2), unlikely]).half()  # [V, D_l]
    loss = caption_loss(hidden, lambda states: (states @ weight.T).float(), torch.tensor([0]))
    (gradient,) = torch.autograd.grad(loss * 4096, hidden)
    expected = 4096 * 64 * 16.0 * torch.tensor(-17.3).half().float().exp()
    assert float(gradient[0, 1]) == pytest.approx(float(expected), rel=0.1)


def test_without_gradients_the_value_is_the_same() -> None:
    hidden, head, labels = task(300, torch.float32)
    with torch.inference_mode():
        found = caption_loss(hidden, lambda states: head(states).float(), labels)
    torch.testing.assert_close(found, in_one(hidden, head, labels).detach())


def test_only_a_piece_of_the_logits_ever_exists() -> None:
    hidden, head, labels = task(3 * LABELS_AT_A_TIME, torch.float32)
    asked: list[int] = []

    def counting(states: Tensor) -> Tensor:
        asked.append(len(states))
        logits: Tensor = head(states).float()
        return logits

    caption_loss(hidden, counting, labels).backward()
    assert asked == [LABELS_AT_A_TIME] * 3
