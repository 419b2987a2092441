"""Training in float16 with scaled gradients, as on a T4: here on a CPU, which computes it too.

Run: .venv/bin/python -m pytest tests/unit/training/test_half_precision.py
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.hardware.device import Placement
from pipeline.hardware.processes import Processes
from pipeline.model.checkpoints import load_tensors
from pipeline.params.schema import Params
from tests.params_files import with_changes
from tests.tiny_llama import CPU
from tests.unit.training.builders import Lab, checkpoint, interrupted_after, losses, make_lab, outputs

HALF = Placement(torch.device("cpu"), torch.float16, "pretended")


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory, tiny_params: Params) -> Lab:
    params = with_changes(tiny_params, language_model={"quantization": "none"})
    return replace(make_lab(tmp_path_factory.mktemp("lab"), params), placement=HALF)


def test_the_loss_is_that_of_float32_to_rounding_also_if_interrupted(half: Lab, tmp_path: Path) -> None:
    replace(half, placement=CPU).train(tmp_path / "single")
    half.train(tmp_path / "half")
    with interrupted_after(steps=3):
        half.train(tmp_path / "resumed")
    half.train(tmp_path / "resumed")
    assert losses(tmp_path / "half") == pytest.approx(losses(tmp_path / "single"), rel=1e-2)
    assert outputs(tmp_path / "resumed") == outputs(tmp_path / "half") != outputs(tmp_path / "single")


def test_steps_that_overflow_are_left_out(half: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scale far too large: every gradient is infinite, no step changes a weight, nothing breaks."""
    with monkeypatch.context() as patch:
        patch.setattr(torch.amp, "GradScaler", partial(torch.amp.GradScaler, init_scale=2.0**60))
        half.train(tmp_path / "overflow", epochs=1)
    half.train(tmp_path / "usual", epochs=1)
    norms = np.loadtxt(tmp_path / "overflow" / "training.csv", delimiter=",", skiprows=1)[:, 4]
    assert not np.isfinite(norms).any()
    untouched, trained = (load_tensors(checkpoint(tmp_path / run))[0] for run in ("overflow", "usual"))
    assert all(torch.isfinite(weight).all() for weight in untouched.values())
    assert any(not torch.equal(untouched[name], trained[name]) for name in trained)


def test_a_process_without_rows_steps_too(half: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of two processes, with one image a step; without the first, so that nothing is summed."""
    monkeypatch.setattr(Processes, "sum", lambda *_: None)
    monkeypatch.setattr(Processes, "broadcast", lambda _, content, *__: content)
    summary = half.train(tmp_path, epochs=1, batch_size=1, processes=Processes(rank=1, count=2))
    assert summary.trained_steps == 8
