"""Adapters in the language model: where they sit, that they learn, and nothing else in it does.

Run: .venv/bin/python -m pytest tests/unit/model/test_adapters.py
"""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pipeline.training.kept_checkpoints import KeptCheckpoints

from pipeline.errors import PipelineError
from pipeline.hardware.device import Placement
from pipeline.hardware.processes import ONE_PROCESS
from pipeline.model.adapters import Adapters, adapter_facts, inject_adapters
from pipeline.model.checkpoints import CheckpointInfo, load_tensors, tensor_digest
from pipeline.model.language_model import LanguageModel, load_language_model
from pipeline.model.projector import Projector
from pipeline.model.vision_language_model import VisionLanguageModel
from pipeline.params.schema import LanguageModelParams
from pipeline.text.prompt import Prompt
from pipeline.text.token_store import read_tokens
from pipeline.training.trainer import Trainer
from tests.adapter_lab import CPU, LORA, OFF, PROJECTOR, SHAPES, checkpoint, hidden
from tests.import_closure import ROOT
from tests.training_lab import SPEC, WIDTH, Lab

PROMPT = Prompt(before=(0, 5, 6), after=(7, 8), eos=1)


Load = Callable[..., LanguageModel]


@pytest.fixture(params=["nf4", "none"])
def load(request: pytest.FixtureRequest, tiny_llama: Path) -> Load:
    """Loads the tiny Llama, in NF4 and as it is."""
    params = LanguageModelParams(str(tiny_llama), None, request.param, double_quantization=False)

    def load_onto(placement: Placement = CPU) -> LanguageModel:
        return load_language_model(params, placement)

    return load_onto


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
    bfloat16 = Placement(torch.device("cpu"), torch.bfloat16, "test")
    model = load(bfloat16)
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


def test_an_unknown_target_is_named_beside_those_there_are(load: Load) -> None:
    with pytest.raises(PipelineError) as caught:
        inject_adapters(load(), replace(LORA, targets=("q_proj", "c_attn")))
    message = str(caught.value)
    assert message.startswith("lora.targets names c_attn, but ")
    assert message.endswith("it has down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj.")


def test_adapters_learn_and_the_layers_they_sit_on_do_not(load: Load, lab: Lab, tmp_path: Path) -> None:
    """Not even a packed 4-bit weight or a quantization scale changes, and no gradient stays in them."""
    tokens = read_tokens(lab.tokens, "train")
    language_model = load()
    adapters = inject_adapters(language_model, LORA)
    projector = Projector(WIDTH, 16, language_model.width)
    model = VisionLanguageModel(projector, language_model, tokens.prompt, adapters)
    params = replace(lab.params.train, weight_decay=0.1)
    features = lab.open_features("memory")
    facts = CheckpointInfo(1, SPEC, {}, {}, 16, language_model.width, {}, "", "", "", 9, adapter_facts(LORA))
    kept = KeptCheckpoints(tmp_path, tmp_path / "none", lambda epoch: replace(facts, epoch=epoch))
    trainer = Trainer(model, features, tokens, params, lab.params.runtime, CPU, kept, ONE_PROCESS)

    def frozen() -> str:
        state = language_model.state_dict()
        return tensor_digest({k: v.float() for k, v in state.items() if "lora_" not in k})

    before = {name: value.clone() for name, value in model.trainable_state().items()}
    frozen_before = frozen()
    trainer.run()

    assert frozen() == frozen_before
    changed = {name for name, value in model.trainable_state().items() if not value.equal(before[name])}
    assert changed == SHAPES.keys() | PROJECTOR - {"mean", "scale"}
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in adapters.parameters())
    optimized = [p for group in trainer.optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in optimized} == {id(p) for p in (*projector.parameters(), *adapters.parameters())}
    assert {group["weight_decay"] for group in trainer.optimizer.param_groups} == {0.1}
    assert all(p.grad is None for p in language_model.parameters() if not p.requires_grad)


def test_adapters_follow_the_moving_average_that_checkpoints_hold(lab: Lab, tmp_path: Path) -> None:
    lab.train(tmp_path / "weights", lora=LORA, epochs=1, ema_decay=0.0)
    lab.train(tmp_path / "average", lora=LORA, epochs=1, ema_decay=0.95)
    weights, average = (
        load_tensors(checkpoint(tmp_path / name, epoch=1))[0] for name in ("weights", "average")
    )
    for name in SHAPES:
        assert not weights[name].equal(average[name])


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
