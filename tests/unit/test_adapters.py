"""Adapters: trained beside the frozen language model, resumed and saved like the projector.

Run: .venv/bin/python -m pytest tests/unit/test_adapters.py
"""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.adapters import Adapters, adapter_facts, inject_adapters
from pipeline.caption_model import CaptionModel
from pipeline.checkpoints import CheckpointInfo, load_tensors, save_tensors, tensor_digest
from pipeline.device import Placement, choose_placement
from pipeline.errors import PipelineError
from pipeline.language_model import LanguageModel, load_language_model
from pipeline.params import LanguageModelParams, LoraParams, Params
from pipeline.processes import ONE_PROCESS
from pipeline.projector import Projector
from pipeline.prompt import Prompt
from pipeline.token_store import read_tokens
from pipeline.trained_model import TrainedModel
from pipeline.trainer import Trainer
from tests.import_closure import ROOT
from tests.training_lab import NUM_TOKENS, SPEC, STEPS, WIDTH, Lab, interrupted_after, make_lab, outputs

CPU = choose_placement("cpu")
LORA = LoraParams(rank=4, alpha=16.0, dropout=0.0, targets=("q_proj", "v_proj"))
OFF = replace(LORA, rank=0)
PROMPT = Prompt(before=(0, 5, 6), after=(7, 8), eos=1)
# The tiny Llama is 64 wide, and its grouped values 32; it has two layers.
SHAPES = {
    f"lora.model.layers.{layer}.self_attn.{name}.lora_{matrix}.weight": shape
    for layer in (0, 1)
    for name, width in (("q_proj", 64), ("v_proj", 32))
    for matrix, shape in (("A", (4, 64)), ("B", (width, 4)))
}
PROJECTOR = {"hidden.weight", "hidden.bias", "output.weight", "output.bias", "mean", "scale"}
# Enough for adapters to change what the model says.
QUICK = {"learning_rate": 0.05, "warmup_steps": 0, "ema_decay": 0.0}

Load = Callable[..., LanguageModel]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, tiny_params: Params) -> Lab:
    return make_lab(tmp_path_factory.mktemp("lab"), tiny_params, images=8)


@pytest.fixture(scope="module")
def trained(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs with adapters, dropout among them, that nothing interrupted."""
    folder = tmp_path_factory.mktemp("trained")
    lab.train(folder, lora=replace(LORA, dropout=0.2), save_every_seconds=1e9, **QUICK)
    return folder


@pytest.fixture(params=["nf4", "none"])
def load(request: pytest.FixtureRequest, tiny_llama: Path) -> Load:
    """Loads the tiny Llama, in NF4 and as it is."""
    params = LanguageModelParams(str(tiny_llama), None, request.param, double_quantization=False)

    def load_onto(placement: Placement = CPU) -> LanguageModel:
        return load_language_model(params, placement)

    return load_onto


def checkpoint(folder: Path, epoch: int = 2) -> Path:
    return folder / "checkpoints" / f"epoch_{epoch:03d}.safetensors"


def hidden(model: LanguageModel, seed: int = 0) -> Tensor:
    """The last hidden states of six random embeddings, `[1, 6, D_l]`."""
    embeddings = torch.randn(1, 6, model.width, generator=torch.Generator().manual_seed(seed))
    mask = torch.ones(6, 6, dtype=torch.bool).tril()[None, None]
    dtype = model.embed(torch.tensor([0])).dtype
    return model.hidden_states(embeddings.to(dtype), mask, torch.arange(6)[None])


def randomize(adapters: Adapters) -> None:
    """Give every matrix values, so that the adapters do something."""
    generator = torch.Generator().manual_seed(7)
    state = {k: torch.randn(v.shape, generator=generator) for k, v in adapters.state_dict().items()}
    adapters.load_state_dict(state, "a test")


def captions(model: TrainedModel, params: Params) -> list[str]:
    features = torch.randn(12, NUM_TOKENS, WIDTH, generator=torch.Generator().manual_seed(1))
    return [one.text for one in model.caption(features, params.generate, batch_size=4)]


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
    model = CaptionModel(projector, language_model, tokens.prompt, adapters)
    params = replace(lab.params.train, weight_decay=0.1)
    features = lab.open_features("memory")
    trainer = Trainer(model, features, tokens, params, lab.params.runtime, CPU, tmp_path, ONE_PROCESS)

    def frozen() -> str:
        state = language_model.state_dict()
        return tensor_digest({k: v.float() for k, v in state.items() if "lora_" not in k})

    before = {name: value.clone() for name, value in model.trainable_state().items()}
    frozen_before = frozen()
    facts = CheckpointInfo(1, SPEC, {}, {}, 16, language_model.width, {}, "", 9, adapter_facts(LORA))
    trainer.run(lambda epoch: replace(facts, epoch=epoch))

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
    model = CaptionModel(Projector(WIDTH, 8, language_model.width), language_model, PROMPT, adapters)

    def is_random() -> bool:
        return not hidden(language_model).equal(hidden(language_model))

    assert not is_random()
    assert model.train() is model
    assert is_random()
    assert not language_model.model.training
    model.eval()
    assert not is_random()


def test_checkpoints_and_metrics_count_the_adapters_in(trained: Path) -> None:
    for epoch in (1, 2):
        tensors, facts = load_tensors(checkpoint(trained, epoch))
        assert tensors.keys() == SHAPES.keys() | PROJECTOR
        assert facts["lora"] == {"rank": 4, "alpha": 16.0, "targets": ["q_proj", "v_proj"]}
        assert all(tensors[name].count_nonzero() > 0 for name in SHAPES)
    metrics = json.loads((trained / "train.json").read_text())
    of_projector = (WIDTH * 16 + 16) + (16 * 64 + 64)
    of_adapters = sum(a * b for a, b in SHAPES.values())
    assert metrics["trainable_parameters"] == of_projector + of_adapters


def test_without_adapters_a_checkpoint_holds_the_projector_alone(lab: Lab, tmp_path: Path) -> None:
    lab.train(tmp_path, lora=OFF, epochs=1)
    tensors, facts = load_tensors(checkpoint(tmp_path, epoch=1))
    assert tensors.keys() == PROJECTOR
    assert facts["lora"] is None
    # What the adapters would be like changes nothing.
    assert lab.train(tmp_path, lora=replace(OFF, alpha=1.0, targets=()), epochs=1).trained_steps == 0
    # Checkpoints written before there were adapters say nothing of them.
    del facts["lora"]
    save_tensors(tmp_path / "old.safetensors", tensors, facts)
    old = TrainedModel.load(tmp_path / "old.safetensors", CPU, None)
    new = TrainedModel.load(checkpoint(tmp_path, epoch=1), CPU, None)
    assert captions(old, lab.params) == captions(new, lab.params)


@pytest.mark.parametrize(
    "change", [{"rank": 2}, {"alpha": 8.0}, {"dropout": 0.0}, {"targets": ("q_proj",)}, {"rank": 0}]
)
def test_other_adapters_start_afresh(lab: Lab, tmp_path: Path, change: dict[str, Any]) -> None:
    lora = replace(LORA, dropout=0.2)
    lab.train(tmp_path, lora=lora, epochs=1)
    assert lab.train(tmp_path, lora=replace(lora, **change), epochs=1).trained_steps == STEPS
    assert lab.train(tmp_path, lora=lora, epochs=1).trained_steps == 0


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_an_interrupted_run_continues_to_the_same_bytes(
    lab: Lab, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    lora = replace(LORA, dropout=0.2)
    with interrupted_after(monkeypatch, steps):
        lab.train(tmp_path, lora=lora, **QUICK)
    assert lab.train(tmp_path, lora=lora, **QUICK).trained_steps == 2 * STEPS - steps
    assert outputs(tmp_path) == outputs(trained)


def test_a_checkpoint_loads_to_equal_captions(lab: Lab, trained: Path, tmp_path: Path) -> None:
    loaded = TrainedModel.load(checkpoint(trained), CPU, None)
    expected = captions(loaded, lab.params)
    again = TrainedModel.load(checkpoint(trained), CPU, None)
    assert captions(again, lab.params) == expected

    # Another epoch's projector and adapters are swapped in, and back.
    again.use_checkpoint(checkpoint(trained, epoch=1))
    first = captions(TrainedModel.load(checkpoint(trained, epoch=1), CPU, None), lab.params)
    assert captions(again, lab.params) == first != expected
    again.use_checkpoint(checkpoint(trained))
    assert captions(again, lab.params) == expected

    # And the adapters do have a part in it.
    tensors, facts = load_tensors(checkpoint(trained))
    without = {name: value * 0 if name in SHAPES else value for name, value in tensors.items()}
    save_tensors(tmp_path / "without.safetensors", without, facts)
    silenced = TrainedModel.load(tmp_path / "without.safetensors", CPU, None)
    assert captions(silenced, lab.params) != expected


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (
            {"rank": 2},
            r"holds \(4, 64\) as lora\.model.*, but its facts about LoRA call for \(2, 64\) \(8 such",
        ),
        ({"targets": ["q_proj"]}, r"holds \(4, 64\) as .*v_proj.* call for no tensor \(4 such"),
        (
            {"targets": ["q_proj", "v_proj", "o_proj"]},
            r"holds no tensor as .*o_proj.* for \(4, 64\) \(4 such",
        ),
        ({"targets": ["c_attn"]}, r"lora\.targets names c_attn"),
        (None, r"holds tensors .*lora.*, but its facts call for"),
    ],
)
def test_adapters_other_than_the_facts_say_are_refused(
    trained: Path, tmp_path: Path, facts: dict[str, Any] | None, message: str
) -> None:
    tensors, known = load_tensors(checkpoint(trained))
    lora = None if facts is None else {**known["lora"], **facts}
    path = tmp_path / "changed.safetensors"
    save_tensors(path, tensors, {**known, "lora": lora})
    with pytest.raises(PipelineError, match=message):
        TrainedModel.load(path, CPU, None)
    with pytest.raises(PipelineError, match=r"comes from another training run|holds tensors"):
        TrainedModel.load(checkpoint(trained), CPU, None).use_checkpoint(path)


def test_adapters_that_lack_a_tensor_are_refused(trained: Path, tmp_path: Path) -> None:
    tensors, facts = load_tensors(checkpoint(trained))
    missing = next(iter(SHAPES))
    del tensors[missing]
    path = tmp_path / "changed.safetensors"
    save_tensors(path, tensors, facts)
    message = rf"changed\.safetensors holds no tensor as {missing}, .* \(4, 64\) \(1 such"
    with pytest.raises(PipelineError, match=message):
        TrainedModel.load(path, CPU, None)
    model = TrainedModel.load(checkpoint(trained), CPU, None)
    with pytest.raises(PipelineError, match=message):
        model.use_checkpoint(path)


def test_peft_is_imported_only_for_adapters(tiny_llama: Path) -> None:
    code = (
        "import sys\n"
        "from pipeline import trained_model, training\n"
        "from pipeline.adapters import inject_adapters\n"
        "from pipeline.device import choose_placement\n"
        "from pipeline.language_model import load_language_model\n"
        "from pipeline.params import LanguageModelParams, LoraParams\n"
        f"params = LanguageModelParams({str(tiny_llama)!r}, None, 'nf4', False)\n"
        "model = load_language_model(params, choose_placement('cpu'))\n"
        "inject_adapters(model, LoraParams(0, 16.0, 0.0, ('q_proj',)))\n"
        "sys.exit('peft' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
