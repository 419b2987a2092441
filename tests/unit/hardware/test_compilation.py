"""Compiling the decoder layers: when it is done, and that it changes no result."""

from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

from pipeline.hardware import compilation
from pipeline.hardware.compilation import should_compile
from pipeline.hardware.device import Placement, choose_placement
from pipeline.model.language_model import load_language_model
from pipeline.model.packing import pack
from pipeline.params.schema import LanguageModelParams

LONG, SHORT = 1e15, 1e9


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> Placement:
    monkeypatch.setattr(compilation, "_finds_compiler", lambda: True)
    return choose_placement("cpu")


def test_auto_compiles_what_trains_for_long(cpu: Placement) -> None:
    assert should_compile("auto", cpu, LONG)
    assert not should_compile("auto", cpu, SHORT)


def test_auto_does_without_a_compiler(cpu: Placement, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "_finds_compiler", lambda: False)
    assert not should_compile("auto", cpu, LONG)


def test_auto_leaves_gpus_as_they_are() -> None:
    gpu = Placement(torch.device("cuda"), torch.bfloat16, "pretended")
    assert not should_compile("auto", gpu, LONG)


@pytest.mark.parametrize(("requested", "compiled"), [("always", True), ("never", False)])
def test_a_request_is_followed(cpu: Placement, requested: str, compiled: bool) -> None:
    assert should_compile(requested, cpu, SHORT) is compiled  # type: ignore[arg-type]


@pytest.mark.skipif(not compilation._finds_compiler(), reason="no C++ compiler is installed")
@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "checkpointed"])
def test_compiled_layers_compute_the_same(tiny_llama: Path, checkpointing: bool) -> None:
    params = LanguageModelParams(str(tiny_llama), None, quantization="nf4", double_quantization=False)
    placement = choose_placement("cpu")
    plain, compiled = (load_language_model(params, placement) for _ in range(2))
    if checkpointing:
        compiled.checkpoint_layers()
    compiled.compile_layers()
    torch._dynamo.reset()
    counters.clear()
    for images, prefix in ((3, 5), (2, 7), (1, 5)):
        batch = pack([[[1, 2, 3], [4, 5]] for _ in range(images)], prefix, eos=0)
        given = torch.randn(images, batch.positions.shape[1], plain.width, generator=torch.manual_seed(0))
        outputs, gradients = [], []
        for model in (plain, compiled):
            leaf = given.clone().requires_grad_()
            hidden = model.hidden_states(leaf, batch.mask, batch.positions)
            hidden[batch.label_row, batch.label_source].pow(2).sum().backward()
            outputs.append(hidden.detach())
            gradients.append(leaf.grad)
        torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-4)
    assert counters["stats"]["unique_graphs"] > 0
