"""Compiling the decoder layers: when it is done, and that it changes no result."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from pipeline.hardware import compilation
from pipeline.hardware.compilation import finds_compiler, should_compile
from pipeline.hardware.device import Placement
from pipeline.model.packing import pack
from tests.tiny_llama import load_llama

LONG, SHORT = 1e16, 1e9


@pytest.mark.parametrize(
    ("requested", "device", "flop", "compiler", "triton", "expected"),
    [
        ("auto", "cpu", LONG, "g++", False, True),
        ("auto", "cpu", SHORT, "g++", False, False),
        ("auto", "cpu", LONG, None, False, False),
        ("auto", "cuda", LONG, "g++", True, True),
        ("auto", "cuda", LONG, "g++", False, False),
        ("auto", "cuda", SHORT, "g++", True, False),
        ("auto", "mps", LONG, "g++", False, False),
        ("always", "cpu", SHORT, "g++", False, True),
        ("never", "cpu", LONG, "g++", False, False),
    ],
)
def test_layers_are_compiled_on_request_or_where_it_pays(
    monkeypatch: pytest.MonkeyPatch,
    requested: Any,
    device: str,
    flop: float,
    compiler: str,
    triton: bool,
    expected: bool,
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: compiler)
    monkeypatch.setattr(compilation, "has_triton", lambda: triton)
    placement = Placement(torch.device(device), torch.float32, "pretended")
    assert should_compile(requested, placement, flop) is expected


@pytest.mark.slow
@pytest.mark.skipif(not finds_compiler(), reason="no C++ compiler is installed")
@pytest.mark.parametrize("checkpointing", [False, True])
def test_compiled_layers_compute_the_same(tiny_llama: Path, checkpointing: bool) -> None:
    plain, compiled = (load_llama(tiny_llama, "nf4") for _ in range(2))
    if checkpointing:
        compiled.checkpoint_layers()
    compiled.compile_layers()
    torch._dynamo.reset()
    counters.clear()
    for images, prefix in ((3, 5), (2, 7)):
        batch = pack([[[1, 2, 3, 0], [4, 5, 0]] for _ in range(images)], prefix)
        torch.manual_seed(0)
        embeddings = torch.randn(images, batch.positions.shape[1], plain.width)
        outputs, gradients = [], []
        for model in (plain, compiled):
            leaf = embeddings.clone().requires_grad_()
            hidden = model.hidden_states(leaf, batch.mask, batch.positions, batch.predicting)
            hidden.pow(2).sum().backward()
            outputs.append(hidden.detach())
            gradients.append(leaf.grad)
        torch.testing.assert_close(*outputs, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)
    assert counters["stats"]["unique_graphs"] > 0
