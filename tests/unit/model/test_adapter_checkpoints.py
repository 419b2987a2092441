"""Checkpoints with adapters: counted, loaded and checked as those of the projector.

Run: .venv/bin/python -m pytest tests/unit/model/test_adapter_checkpoints.py
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.errors import PipelineError
from pipeline.model.checkpoints import load_checkpoint, load_tensors, save_tensors
from pipeline.model.feature_captioner import FeatureCaptioner
from tests.unit.training.builders import CPU, LORA, NUM_TOKENS, OFF, PROJECTOR, SHAPES, WIDTH, Lab, checkpoint

# Enough for adapters to change what the model says.
QUICK: dict[str, Any] = {"learning_rate": 0.05, "warmup_steps": 0, "ema_decay": 0.0}


@pytest.fixture(scope="module")
def trained(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs with adapters, dropout among them."""
    folder = tmp_path_factory.mktemp("trained")
    lab.train(folder, lora=replace(LORA, dropout=0.2), **QUICK)
    return folder


def load(path: Path) -> FeatureCaptioner:
    return FeatureCaptioner.load(load_checkpoint(path), CPU, None)


def captions(model: FeatureCaptioner, lab: Lab) -> list[str]:
    features = torch.randn(12, NUM_TOKENS, WIDTH, generator=torch.Generator().manual_seed(1))
    return [one.text for one in model.caption(features, lab.params.generate, batch_size=4)]


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


def test_adapters_follow_the_moving_average_that_checkpoints_hold(lab: Lab, tmp_path: Path) -> None:
    saved = []
    for decay in (0.0, 0.95):
        lab.train(tmp_path / str(decay), lora=LORA, epochs=1, ema_decay=decay)
        saved.append(load_tensors(checkpoint(tmp_path / str(decay)))[0])
    weights, average = saved
    assert not any(weights[name].equal(average[name]) for name in SHAPES)


def test_without_adapters_a_checkpoint_holds_the_projector_alone(lab: Lab, tmp_path: Path) -> None:
    lab.train(tmp_path, lora=OFF, epochs=1)
    tensors, facts = load_tensors(checkpoint(tmp_path))
    assert tensors.keys() == PROJECTOR
    assert facts["lora"] is None
    # What the adapters would be like changes nothing.
    assert lab.train(tmp_path, lora=replace(OFF, alpha=1.0, targets=()), epochs=1).trained_steps == 0
    # Checkpoints written before there were adapters say nothing of them.
    del facts["lora"]
    save_tensors(tmp_path / "old.safetensors", tensors, facts)
    assert captions(load(tmp_path / "old.safetensors"), lab) == captions(load(checkpoint(tmp_path)), lab)


def test_a_checkpoint_loads_to_equal_captions(lab: Lab, trained: Path, tmp_path: Path) -> None:
    expected = captions(load(checkpoint(trained, epoch=2)), lab)
    model = load(checkpoint(trained, epoch=2))
    assert captions(model, lab) == expected

    # Another epoch's projector and adapters are swapped in, and back.
    model.use_checkpoint(load_checkpoint(checkpoint(trained, epoch=1)))
    first = captions(load(checkpoint(trained, epoch=1)), lab)
    assert captions(model, lab) == first != expected
    model.use_checkpoint(load_checkpoint(checkpoint(trained, epoch=2)))
    assert captions(model, lab) == expected

    # And the adapters do have a part in it.
    tensors, facts = load_tensors(checkpoint(trained, epoch=2))
    without = {name: value * 0 if name in SHAPES else value for name, value in tensors.items()}
    save_tensors(tmp_path / "without.safetensors", without, facts)
    assert captions(load(tmp_path / "without.safetensors"), lab) != expected


MISSING = next(iter(SHAPES))


@pytest.mark.parametrize(
    ("facts", "without", "message"),
    [
        ({"rank": 2}, set(), r"\(4, 64\) as lora\.model.*LoRA call for \(2, 64\) \(8 "),
        ({"targets": ["q_proj"]}, set(), r"\(4, 64\) as .*v_proj.* for no tensor \(4 "),
        ({"targets": ["q_proj", "v_proj", "o_proj"]}, set(), r"no tensor as .*o_proj.* \(4, 64\) \(4 "),
        ({"targets": ["c_attn"]}, set(), r"lora\.targets names c_attn"),
        (None, set(), r"holds tensors .*lora"),
        ({}, {MISSING}, rf"no tensor as {MISSING}, .* \(4, 64\) \(1 "),
    ],
)
def test_adapters_other_than_the_facts_say_are_refused(
    trained: Path, tmp_path: Path, facts: dict[str, Any] | None, without: set[str], message: str
) -> None:
    tensors, known = load_tensors(checkpoint(trained))
    lora = None if facts is None else {**known["lora"], **facts}
    path = tmp_path / "changed.safetensors"
    save_tensors(path, {k: v for k, v in tensors.items() if k not in without}, {**known, "lora": lora})
    with pytest.raises(PipelineError, match=message):
        load(path)
    with pytest.raises(PipelineError, match=message if without else r"another training run|holds tensors"):
        load(checkpoint(trained)).use_checkpoint(load_checkpoint(path))
