"""Damage to a saved training costs few steps, and never changes a byte of the result.

Run: .venv/bin/python -m pytest tests/unit/training/test_damaged_training.py
"""

import shutil
from pathlib import Path
from typing import NoReturn

import pytest

from pipeline.model.checkpoints import load_checkpoint, save_checkpoint
from pipeline.training import run_folder
from tests.unit.training.builders import (
    STEPS,
    Lab,
    checkpoint,
    flip_bit,
    interrupted_after,
    outputs,
    scratch_file,
)

STATES = ("state.safetensors", "state_before.safetensors")


def kill(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def test_a_damaged_state_costs_the_steps_since_the_one_before(
    lab: Lab, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run that passes a damaged state over is killed while it saves for the first time."""
    with interrupted_after(3):
        lab.train(tmp_path, epochs=3)
    flip_bit(scratch_file(tmp_path, STATES[0]))
    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "save_tensors", kill)
        with pytest.raises(KeyboardInterrupt):
            lab.train(tmp_path, epochs=3)
    # Saved at the end of each step and of each epoch: the state before is that of the epoch's end.
    assert lab.train(tmp_path, epochs=3).trained_steps == 3 * STEPS - 2
    assert outputs(tmp_path) == outputs(finished)


def test_without_a_good_state_a_run_starts_again(lab: Lab, finished: Path, tmp_path: Path) -> None:
    """The newest state is of another training, the one before is damaged."""
    for folder, seed in ((tmp_path, 0), (tmp_path / "other", 1)):
        lab.train(folder, epochs=3, seed=seed)
    shutil.copy(scratch_file(tmp_path / "other", STATES[0]), scratch_file(tmp_path, STATES[0]))
    flip_bit(scratch_file(tmp_path, STATES[1]))
    assert lab.train(tmp_path, epochs=3).trained_steps == 3 * STEPS
    assert outputs(tmp_path) == outputs(finished)


def test_lost_checkpoints_are_copied_from_the_outputs(lab: Lab, finished: Path, tmp_path: Path) -> None:
    lab.train(tmp_path, epochs=3)
    lost = [scratch_file(tmp_path, f"epoch_00{epoch}.safetensors") for epoch in (1, 2, 3)]
    flip_bit(lost[0])
    lost[1].unlink()
    assert lab.train(tmp_path, epochs=3).trained_steps == 0
    assert {path.name: path.read_bytes() for path in lost}.items() <= outputs(tmp_path).items()
    assert outputs(tmp_path) == outputs(finished)


@pytest.mark.parametrize("since", [0, 1])
def test_a_lost_checkpoint_is_made_from_a_state(lab: Lab, finished: Path, tmp_path: Path, since: int) -> None:
    """At the cost of the steps since then: the state before is the epoch's, the last one is newer."""
    with interrupted_after(STEPS + since):
        lab.train(tmp_path, epochs=3)
    flip_bit(scratch_file(tmp_path, "epoch_001.safetensors"))
    assert lab.train(tmp_path, epochs=3).trained_steps == 2 * STEPS
    assert outputs(tmp_path) == outputs(finished)


def test_without_a_copy_a_lost_checkpoint_starts_again(
    lab: Lab, finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Another GPU, or other versions of the libraries, give other weights for the same training."""
    lab.train(tmp_path, epochs=3)
    lost = scratch_file(tmp_path, "epoch_001.safetensors")
    lost.unlink()
    read = load_checkpoint(checkpoint(tmp_path))
    weights = {name: value + 1e-3 for name, value in read.projector.state_dict().items()}
    save_checkpoint(checkpoint(tmp_path), {**weights, **read.adapters}, read.info)
    assert lab.train(tmp_path, epochs=3).trained_steps == 3 * STEPS
    assert outputs(tmp_path) == outputs(finished)
    assert f"{lost} is damaged or missing, and so is its copy {checkpoint(tmp_path)}" in caplog.text
    assert f"New training from step 1: no state in {lost.parent}" in caplog.text
