"""Adapters in the language model: where they sit, and that fresh ones change nothing.

Run: .venv/bin/python -m pytest tests/unit/model/test_adapters.py
"""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipeline.errors import PipelineError
from pipeline.hardware.device import Placement
from pipeline.model.adapters import Adapters, inject_adapters
from pipeline.model.language_model import LanguageModel, load_language_model
from pipeline.model.projector import Projector
from pipeline.model.vision_language_model import VisionLanguageModel
from pipeline.params.schema import LanguageModelParams
from pipeline.text.prompt import Prompt
from tests.import_closure import ROOT
from tests.unit.training.builders import CPU, LORA, OFF, SHAPES, WIDTH

PROMPT = Prompt(before=(0, 5, 6), after=(7, 8), eos=1)
Load = Callable[..., LanguageModel]


@pytest.fixture(params=["nf4", "none"])
def load(request: pytest.FixtureRequest, tiny_llama: Path) -> Load:
    """Loads the tiny Llama, in NF4 and as it is."""
    params = LanguageModelParams(str(tiny_llama), None, request.param, double_quantization=False)
    return lambda placement=CPU: load_language_model(params, placement)


def hidden(model: LanguageModel) -> Tensor:
    """The last hidden states of six random embeddings, `[1, 6, D_l]`."""
    embeddings = torch.randn(1, 6, model.width, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(6, 6, dtype=torch.bool).tril()[None, None]
    dtype = model.embed(torch.tensor([0])).dtype
    return model.hidden_states(embeddings.to(dtype), mask, torch.arange(6)[None])


def randomize(adapters: Adapters) -> None:
    """Give every matrix values, so that the adapters do something."""
    generator = torch.Generator().manual_seed(7)
    state = {k: torch.randn(v.shape, generator=generator) for k, v in adapters.state_dict().items()}
    adapters.load_state_dict(state, "a test")


def test_fresh_adapters_change_nothing_and_others_do(load: Load) -> None:
    model = load()
    plain = hidden(model)
    adapters = inject_adapters(model, LORA)
    assert torch.equal(hidden(model), plain)
    randomize(adapters)
    assert not torch.allclose(hidden(model), plain, atol=1e-2)


def test_adapters_are_what_the_targets_name_and_float32_whatever_the_model_is(load: Load) -> None:
    model = load(Placement(torch.device("cpu"), torch.bfloat16, "test"))
    adapters = inject_adapters(model, LORA)
    state = adapters.state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == SHAPES
    assert {value.dtype for value in state.values()} == {torch.float32}
    assert {id(p) for p in adapters.parameters()} == {id(p) for p in model.parameters() if p.requires_grad}
    randomize(adapters)
    assert hidden(model).dtype == torch.bfloat16


def test_with_rank_0_the_model_stays_as_it_is(load: Load) -> None:
    model = load()
    names = [name for name, _ in model.named_modules()]
    adapters = inject_adapters(model, replace(OFF, targets=("no_such_layer",)))
    assert (adapters.parameters(), adapters.state_dict()) == ([], {})
    assert [name for name, _ in model.named_modules()] == names
    assert not any(p.requires_grad for p in model.parameters())


def test_an_unknown_target_is_named_with_those_that_exist(load: Load) -> None:
    layers = "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"
    with pytest.raises(PipelineError, match=rf"lora\.targets names c_attn.* {layers}"):
        inject_adapters(load(), replace(LORA, targets=("q_proj", "c_attn")))


def test_dropout_of_adapters_is_on_in_training_alone(load: Load) -> None:
    language_model = load()
    adapters = inject_adapters(language_model, replace(LORA, dropout=0.5))
    randomize(adapters)
    model = VisionLanguageModel(Projector(WIDTH, 8, language_model.width), language_model, PROMPT, adapters)

    def is_random() -> bool:
        return not hidden(language_model).equal(hidden(language_model))

    assert not is_random()
    assert model.train() is model
    assert is_random()
    assert not language_model.model.training
    model.eval()
    assert not is_random()


def test_peft_is_imported_only_for_adapters(tiny_llama: Path) -> None:
    code = (
        "import sys\n"
        "import pipeline.model.feature_captioner, pipeline.training.train\n"
        "from pipeline.model.adapters import inject_adapters\n"
        "from pipeline.hardware.device import choose_placement\n"
        "from pipeline.model.language_model import load_language_model\n"
        "from pipeline.params.schema import LanguageModelParams, LoraParams\n"
        f"params = LanguageModelParams({str(tiny_llama)!r}, None, 'nf4', False)\n"
        "model = load_language_model(params, choose_placement('cpu'))\n"
        "inject_adapters(model, LoraParams(0, 16.0, 0.0, ('q_proj',)))\n"
        "sys.exit('peft' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
