"""Words before the image that are computed once: loss and gradients are those of computing them in each step.

Run: .venv/bin/python -m pytest tests/unit/model/test_known_words.py
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.model.adapters import inject_adapters
from pipeline.model.language_model import LanguageModel
from pipeline.model.packing import PackedBatch, pack
from pipeline.model.vision_language_model import VisionLanguageModel
from tests.tiny_llama import NUM_TOKENS, PROMPT, load_llama, make_features, make_model
from tests.unit.training.builders import LORA, OFF

KNOWN = len(PROMPT.before)
ROWS = [[[10, 11, 12], [13]], [[19, 20]]]
CONTEXTS = [[30, 31, 32], []]
FEATURES = make_features(len(ROWS))
Load = Callable[..., VisionLanguageModel]


@pytest.fixture
def load(tiny_llama: Path) -> Load:
    """Loads the tiny Llama with the same projector each time."""

    def loaded(quantization: Any = "none", rank: int = 0) -> VisionLanguageModel:
        language_model = load_llama(tiny_llama, quantization)
        adapters = inject_adapters(language_model, replace(LORA, rank=rank))
        return make_model(language_model, adapters=adapters)

    return loaded


def packed(contexts: list[list[int]] | None = None) -> PackedBatch:
    return pack(ROWS, PROMPT.prefix_length(NUM_TOKENS), contexts, PROMPT.context_start(NUM_TOKENS))


def loss_and_gradients(model: VisionLanguageModel, batch: PackedBatch) -> list[Tensor]:
    loss = model.loss(FEATURES, batch)
    return [loss.detach(), *torch.autograd.grad(loss, model.trainable_parameters())]


def computed_positions(model: VisionLanguageModel) -> list[int]:
    """The positions of each pass through the language model's layers, as they come."""
    lengths: list[int] = []
    model.language_model.model.base_model.register_forward_pre_hook(
        lambda _model, _arguments, named: lengths.append(named["inputs_embeds"].shape[1]), with_kwargs=True
    )
    return lengths


def assert_close(ours: list[Tensor], expected: list[Tensor]) -> None:
    for a, b in zip(ours, expected, strict=True):
        assert (a - b).norm() <= 1e-5 * b.norm()


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("contexts", [None, CONTEXTS], ids=["plain", "contexts"])
@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_loss_and_gradients_are_those_of_computing_all_words(
    monkeypatch: pytest.MonkeyPatch, load: Load, quantization: str, contexts: Any, checkpointing: bool
) -> None:
    batch, model = packed(contexts), load(quantization)
    if checkpointing:
        model.language_model.checkpoint_layers()
    lengths, positions = computed_positions(model), batch.owners.shape[1]
    ours = [loss_and_gradients(model, batch) for _ in range(2)]
    assert lengths == [KNOWN, positions - KNOWN, positions - KNOWN]
    monkeypatch.setattr(LanguageModel, "know_words", lambda *_: 0)
    expected = loss_and_gradients(model, batch)
    assert lengths[3:] == [positions]
    for values in ours:
        assert_close(values, expected)


@pytest.mark.parametrize("rank", [LORA.rank, OFF.rank])
def test_with_adapters_all_words_are_computed(load: Load, rank: int) -> None:
    batch, model = packed(), load(rank=rank)
    lengths = computed_positions(model)
    model.loss(FEATURES, batch)
    assert lengths[-1] == batch.owners.shape[1] - (0 if rank else KNOWN)


def test_another_prompt_of_the_same_language_model_has_its_own_words_and_both_can_be_trained(
    load: Load,
) -> None:
    batch, model = packed(), load()
    expected = loss_and_gradients(model, batch)
    other = VisionLanguageModel(model.projector, model.language_model, replace(PROMPT, before=(9, 5, 6)))
    assert other.log_probabilities(FEATURES, batch).sum() != -expected[0]
    assert float(model.log_probabilities(FEATURES, batch).sum()) == pytest.approx(
        -float(expected[0]), rel=1e-5
    )
    assert_close(loss_and_gradients(model, batch), expected)
