"""Plain weights with NF4's values: the same loss and gradient, without taking weights apart in each step."""

from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn.modules import Linear4bit
from torch import Tensor

from pipeline.hardware.device import Placement
from pipeline.model import dequantize
from pipeline.model.adapters import inject_adapters
from pipeline.model.dequantize import dequantize_layers, should_dequantize
from pipeline.model.packing import pack
from tests.tiny_llama import load_llama
from tests.unit.training.builders import LORA


def test_hidden_states_and_gradients_are_those_of_nf4_bit_for_bit_with_adapters_too(tiny_llama: Path) -> None:
    batch = pack([[[7, 8, 9], [10, 11]], [[12, 13]]], prefix_length=5)
    results: list[list[Tensor]] = []
    for plain in (False, True):
        model = load_llama(tiny_llama, "nf4")
        if plain:
            dequantize_layers(model)
        assert plain != any(isinstance(layer, Linear4bit) for layer in model.modules())
        torch.manual_seed(0)
        adapters = inject_adapters(model, LORA)
        generator = torch.Generator().manual_seed(1)
        words = torch.randn(*batch.owners.shape, model.width, generator=generator).requires_grad_()
        hidden = model.hidden_states(words, batch.mask, batch.positions, batch.predicting)
        gradients = torch.autograd.grad(hidden.sin().sum(), [words, *adapters.parameters()])
        results.append([hidden.detach(), *gradients])
    for ours, expected in zip(*results, strict=True):
        assert torch.equal(ours, expected)


@pytest.mark.parametrize(
    ("requested", "quantization", "device", "free", "expected"),
    [
        ("auto", "nf4", "cuda", 1e9, True),
        ("auto", "nf4", "cuda", 1e5, False),
        ("auto", "nf4", "cpu", 1e9, True),
        ("always", "nf4", "cpu", 0.0, True),
        ("never", "nf4", "cuda", 1e9, False),
        ("always", "none", "cpu", 1e9, False),
    ],
)
def test_weights_are_dequantized_on_request_or_where_memory_is_to_spare(
    monkeypatch: pytest.MonkeyPatch,
    tiny_llama: Path,
    requested: Any,
    quantization: Any,
    device: str,
    free: float,
    expected: bool,
) -> None:
    monkeypatch.setattr(dequantize, "free_memory", lambda _device: free)
    placement = Placement(torch.device(device), torch.bfloat16, "pretended")
    assert should_dequantize(requested, load_llama(tiny_llama, quantization), placement) is expected
