"""Training in float16 with scaled gradients, as on a T4: here on a CPU, which computes it too.

Run: .venv/bin/python -m pytest tests/unit/model/test_half_precision.py
"""

import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from pipeline.hardware.device import Placement
from pipeline.hardware.processes import Processes
from pipeline.model.checkpoints import load_tensors
from pipeline.params.schema import Params
from tests import training_lab
from tests.training_lab import Lab, interrupted_after, losses, make_lab, outputs

HALF = Placement(torch.device("cpu"), torch.float16, "pretended")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, tiny_params: Params) -> Lab:
    language_model = replace(tiny_params.language_model, quantization="none")
    params = replace(tiny_params, language_model=language_model)
    return make_lab(tmp_path_factory.mktemp("lab"), params, images=8)


@pytest.fixture
def in_half(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_lab, "choose_placement", lambda _: HALF)


def first_weights(folder: Path) -> dict[str, torch.Tensor]:
    tensors, _ = load_tensors(folder / "checkpoints" / "epoch_001.safetensors")
    return tensors


def test_the_loss_is_that_of_float32_to_rounding(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.train(tmp_path / "single")
    monkeypatch.setattr(training_lab, "choose_placement", lambda _: HALF)
    lab.train(tmp_path / "half")
    assert losses(tmp_path / "half") == pytest.approx(losses(tmp_path / "single"), rel=1e-2)
    assert outputs(tmp_path / "half") != outputs(tmp_path / "single")


@pytest.mark.usefixtures("in_half")
def test_an_interrupted_run_ends_like_one_that_was_not(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.train(tmp_path / "whole")
    with interrupted_after(monkeypatch, steps=3):
        lab.train(tmp_path / "resumed")
    lab.train(tmp_path / "resumed")
    assert outputs(tmp_path / "resumed") == outputs(tmp_path / "whole")


@pytest.mark.usefixtures("in_half")
def test_steps_whose_gradient_overflows_are_left_out_and_the_run_goes_on(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scale far too large: every gradient is infinite, no step changes a weight, nothing breaks."""
    with monkeypatch.context() as patch:
        scaler = partial(torch.amp.GradScaler, init_scale=2.0**60)
        patch.setattr(torch.amp, "GradScaler", scaler)
        lab.train(tmp_path / "overflowing", epochs=1)
    lab.train(tmp_path / "usual", epochs=1)
    rows = (tmp_path / "overflowing" / "training.csv").read_text().splitlines()[1:]
    assert not any(math.isfinite(float(row.split(",")[-1])) for row in rows)
    untouched, trained = first_weights(tmp_path / "overflowing"), first_weights(tmp_path / "usual")
    assert all(torch.isfinite(weight).all() for weight in untouched.values())
    assert any(not torch.equal(untouched[name], trained[name]) for name in trained)


@pytest.mark.usefixtures("in_half")
def test_a_process_without_rows_goes_along(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of two, with one image a step; here without the first, so that it adds up nothing."""
    monkeypatch.setattr(Processes, "sum", lambda *_: None)
    done = lab.train(tmp_path, epochs=1, batch_size=1, processes=Processes(rank=1, count=2))
    assert done.trained_steps == 8
