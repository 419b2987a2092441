"""Adapters: fresh ones change nothing, and checkpoints contain, load and check them.

Run: .venv/bin/python -m pytest tests/unit/model/test_adapters.py
"""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.hardware.device import Placement
from pipeline.model.adapters import Adapters, inject_adapters
from pipeline.model.checkpoints import load_checkpoint, load_tensors, save_tensors
from pipeline.model.feature_captioner import FeatureCaptioner
from pipeline.model.language_model import LanguageModel
from tests.refusals import refusal
from tests.tiny_llama import CPU, NUM_TOKENS, WIDTH, load_llama
from tests.unit.training.builders import LORA, OFF, PROJECTOR, SHAPES, Lab, checkpoint

Load = Callable[..., LanguageModel]


@pytest.fixture(params=["nf4", "none"])
def load(request: pytest.FixtureRequest, tiny_llama: Path) -> Load:
    """Loads the tiny Llama, in NF4 and as it is."""
    return partial(load_llama, tiny_llama, request.param)


def hidden(model: LanguageModel) -> Tensor:
    """Return the last hidden states of six random embeddings, `[1, 6, D_l]`."""
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


def test_adapters_are_those_of_the_targets_and_float32_in_a_model_of_any_type(load: Load) -> None:
    model = load(placement=Placement(torch.device("cpu"), torch.bfloat16, "test"))
    adapters = inject_adapters(model, LORA)
    state = adapters.state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == SHAPES
    assert {value.dtype for value in state.values()} == {torch.float32}
    assert {id(p) for p in adapters.parameters()} == {id(p) for p in model.parameters() if p.requires_grad}
    randomize(adapters)
    assert hidden(model).dtype == torch.bfloat16


def test_an_unknown_target_is_named_with_those_that_exist_unless_the_rank_is_0(load: Load) -> None:
    model = load()
    names = [name for name, _ in model.named_modules()]
    unknown = replace(LORA, targets=("q_proj", "c_attn"))
    assert inject_adapters(model, replace(unknown, rank=0)).state_dict() == {}
    layers = "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"
    refusal(inject_adapters, model, unknown, match=rf"lora\.targets: .* c_attn.* {layers}")
    assert [name for name, _ in model.named_modules()] == names


@pytest.fixture(scope="module")
def trained(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs that is quick enough for its adapters to change the captions."""
    folder = tmp_path_factory.mktemp("trained")
    lora = replace(LORA, dropout=0.2)
    lab.train(folder, lora=lora, learning_rate=0.05, warmup_steps=0, ema_decay=0.0)
    return folder


def captioner(path: Path) -> FeatureCaptioner:
    return FeatureCaptioner.load(load_checkpoint(path), CPU, None)


def captions(model: FeatureCaptioner, lab: Lab) -> list[str]:
    features = torch.randn(12, NUM_TOKENS, WIDTH, generator=torch.Generator().manual_seed(1))
    return [caption.text for caption in model.caption(features, lab.params.generate, batch_size=4)]


def test_checkpoints_contain_the_adapters_and_metrics_count_them(trained: Path) -> None:
    tensors, provenance = load_tensors(checkpoint(trained, epoch=2))
    assert tensors.keys() == SHAPES.keys() | PROJECTOR
    assert provenance["lora"] == {"rank": 4, "alpha": 16.0, "targets": ["q_proj", "v_proj"]}
    assert all(tensors[name].count_nonzero() > 0 for name in SHAPES)
    projector, adapters = (WIDTH * 16 + 16) + (16 * 64 + 64), sum(a * b for a, b in SHAPES.values())
    metrics = json.loads((trained / "train.json").read_text())
    assert metrics["trainable_parameters"] == projector + adapters


def test_without_adapters_a_checkpoint_contains_only_the_projector(lab: Lab, tmp_path: Path) -> None:
    lab.train(tmp_path, lora=OFF, epochs=1)
    tensors, provenance = load_tensors(checkpoint(tmp_path))
    assert tensors.keys() == PROJECTOR
    assert provenance.pop("lora") is None
    # The other settings of adapters change nothing.
    assert lab.train(tmp_path, lora=replace(OFF, alpha=1.0, targets=()), epochs=1).trained_steps == 0
    # Checkpoints from before there were adapters do not mention them.
    save_tensors(tmp_path / "old.safetensors", tensors, provenance)
    assert captions(captioner(tmp_path / "old.safetensors"), lab)


def test_the_captions_are_those_of_the_epoch_whose_checkpoint_is_in_use(lab: Lab, trained: Path) -> None:
    expected = {epoch: captions(captioner(checkpoint(trained, epoch)), lab) for epoch in (1, 2)}
    assert expected[1] != expected[2]
    model = captioner(checkpoint(trained, epoch=2))
    for epoch in (2, 1, 2):
        model.use_checkpoint(load_checkpoint(checkpoint(trained, epoch)))
        assert captions(model, lab) == expected[epoch]


FIRST = next(iter(SHAPES))


@pytest.mark.parametrize(
    ("change", "without", "message"),
    [
        ({"rank": 2}, set(), r"lora\.model.* is \(4, 64\), expected \(2, 64\)"),
        ({"targets": ["q_proj"]}, set(), r"v_proj.* is \(4, 64\), expected None"),
        (None, set(), r"lora.* expected None"),
        ({}, {FIRST}, rf"{FIRST} .* is None, expected \(4, 64\)"),
    ],
)
def test_adapters_that_differ_from_their_provenance_are_refused(
    trained: Path, tmp_path: Path, change: dict[str, Any] | None, without: set[str], message: str
) -> None:
    tensors, provenance = load_tensors(checkpoint(trained))
    lora = None if change is None else {**provenance["lora"], **change}
    path = tmp_path / "changed.safetensors"
    remaining = {name: value for name, value in tensors.items() if name not in without}
    save_tensors(path, remaining, {**provenance, "lora": lora})
    refusal(captioner, path, match=message)
    if without or change is None:
        in_use = captioner(checkpoint(trained))
        refusal(lambda: in_use.use_checkpoint(load_checkpoint(path)), match="expected")
