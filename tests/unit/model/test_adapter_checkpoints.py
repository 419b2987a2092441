"""Checkpoints with adapters: counted, continued, loaded and checked as those of the projector.

Run: .venv/bin/python -m pytest tests/unit/model/test_adapter_checkpoints.py
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.errors import PipelineError
from pipeline.model.checkpoints import load_tensors, save_tensors
from pipeline.model.feature_captioner import FeatureCaptioner
from pipeline.params.schema import Params
from tests.adapter_lab import CPU, LORA, OFF, PROJECTOR, SHAPES, checkpoint
from tests.training_lab import NUM_TOKENS, STEPS, WIDTH, Lab, interrupted_after, outputs

# Enough for adapters to change what the model says.
QUICK: dict[str, Any] = {"learning_rate": 0.05, "warmup_steps": 0, "ema_decay": 0.0}


@pytest.fixture(scope="module")
def trained(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs with adapters, dropout among them, that nothing interrupted."""
    folder = tmp_path_factory.mktemp("trained")
    lab.train(folder, lora=replace(LORA, dropout=0.2), save_every_seconds=1e9, **QUICK)
    return folder


def captions(model: FeatureCaptioner, params: Params) -> list[str]:
    features = torch.randn(12, NUM_TOKENS, WIDTH, generator=torch.Generator().manual_seed(1))
    return [one.text for one in model.caption(features, params.generate, batch_size=4)]


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
    old = FeatureCaptioner.load(tmp_path / "old.safetensors", CPU, None)
    new = FeatureCaptioner.load(checkpoint(tmp_path, epoch=1), CPU, None)
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
    loaded = FeatureCaptioner.load(checkpoint(trained), CPU, None)
    expected = captions(loaded, lab.params)
    again = FeatureCaptioner.load(checkpoint(trained), CPU, None)
    assert captions(again, lab.params) == expected

    # Another epoch's projector and adapters are swapped in, and back.
    again.use_checkpoint(checkpoint(trained, epoch=1))
    first = captions(FeatureCaptioner.load(checkpoint(trained, epoch=1), CPU, None), lab.params)
    assert captions(again, lab.params) == first != expected
    again.use_checkpoint(checkpoint(trained))
    assert captions(again, lab.params) == expected

    # And the adapters do have a part in it.
    tensors, facts = load_tensors(checkpoint(trained))
    without = {name: value * 0 if name in SHAPES else value for name, value in tensors.items()}
    save_tensors(tmp_path / "without.safetensors", without, facts)
    silenced = FeatureCaptioner.load(tmp_path / "without.safetensors", CPU, None)
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
        FeatureCaptioner.load(path, CPU, None)
    with pytest.raises(PipelineError, match=r"comes from another training run|holds tensors"):
        FeatureCaptioner.load(checkpoint(trained), CPU, None).use_checkpoint(path)


def test_adapters_that_lack_a_tensor_are_refused(trained: Path, tmp_path: Path) -> None:
    tensors, facts = load_tensors(checkpoint(trained))
    missing = next(iter(SHAPES))
    del tensors[missing]
    path = tmp_path / "changed.safetensors"
    save_tensors(path, tensors, facts)
    message = rf"changed\.safetensors holds no tensor as {missing}, .* \(4, 64\) \(1 such"
    with pytest.raises(PipelineError, match=message):
        FeatureCaptioner.load(path, CPU, None)
    model = FeatureCaptioner.load(checkpoint(trained), CPU, None)
    with pytest.raises(PipelineError, match=message):
        model.use_checkpoint(path)
