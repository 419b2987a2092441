"""However a run of training was cut up, or its saved files damaged, its checkpoints are the same bytes.

Run: .venv/bin/python -m pytest tests/unit/training/test_resuming.py
"""

import importlib.metadata
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from pipeline.errors import PipelineError
from pipeline.model.checkpoints import load_checkpoint, save_checkpoint
from pipeline.training import run_folder
from tests.refusals import fail_reads, refusal
from tests.unit.training.builders import (
    LORA,
    STEPS,
    Lab,
    checkpoint,
    flip_bit,
    interrupted_after,
    outputs,
    save_features,
    scratch_file,
)

ADAPTERS = replace(LORA, dropout=0.2)


@pytest.mark.parametrize(
    ("changes", "steps", "seconds", "saved"),
    [
        *(({}, steps, 1e-9, steps) for steps in (1, STEPS)),
        # Saved only at the end of the epoch.
        ({}, STEPS + 1, 1e9, STEPS),
        ({"dropout": 0.3, "lora": ADAPTERS}, 3, 1e-9, 3),
        # Interrupted before and after anything was saved.
        ({"word_passes": 2, "dropout": 0.3}, 1, 1e9, 0),
        ({"word_passes": 2}, 1, 1e-9, 1),
    ],
)
def test_an_interrupted_run_continues_to_the_same_bytes(
    lab: Lab, finished: Path, tmp_path: Path, changes: dict[str, Any], steps: int, seconds: float, saved: int
) -> None:
    whole = finished
    if changes:
        whole = tmp_path / "whole"
        lab.train(whole, epochs=3, **changes)
        assert outputs(whole) != outputs(finished)
    parts = tmp_path / "parts"
    with interrupted_after(steps):
        lab.train(parts, epochs=3, runtime={"save_every_seconds": seconds}, **changes)
    assert not (parts / "checkpoints").exists()
    assert lab.train(parts, epochs=3, **changes).trained_steps == 3 * STEPS - saved
    assert outputs(parts) == outputs(whole)


def test_more_epochs_continue_and_fewer_train_nothing(lab: Lab, finished: Path, tmp_path: Path) -> None:
    lab.train(tmp_path, epochs=1)
    first = outputs(tmp_path)
    assert lab.train(tmp_path, epochs=3).trained_steps == 2 * STEPS
    assert outputs(tmp_path) == outputs(finished)
    summary = lab.train(tmp_path, epochs=1)
    assert (summary.epochs, summary.steps, summary.trained_steps) == (1, STEPS, 0)
    assert outputs(tmp_path) == first


def test_another_parameter_starts_again(lab: Lab, tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [
        {"learning_rate": 3e-3},
        {"supervise_eos": False},
        *({"lora": replace(ADAPTERS, **lora)} for lora in ({"alpha": 8.0}, {"dropout": 0.0}, {"rank": 0})),
        # A schedule that depends on the number of epochs.
        *({"schedule": "cosine", "epochs": epochs} for epochs in (1, 2)),
    ]
    usual: dict[str, Any] = {"lora": ADAPTERS, "epochs": 1}
    lab.train(tmp_path, **usual)
    before = outputs(tmp_path)
    for change in changes:
        assert lab.train(tmp_path, **{**usual, **change}).trained_steps == change.get("epochs", 1) * STEPS
        assert outputs(tmp_path)[checkpoint(tmp_path).name] != before[checkpoint(tmp_path).name]
    # And back: what was trained is still there.
    assert lab.train(tmp_path, **usual).trained_steps == 0
    assert outputs(tmp_path) == before


def test_other_features_start_again_unless_never_trained_on(lab: Lab, finished: Path, tmp_path: Path) -> None:
    """Ids and digests of the images are the same in all three stores."""
    stores = tmp_path / "damaged.h5", tmp_path / "larger.h5"
    for path, count, seed in zip(stores, (8, 9), (1, 0), strict=True):
        save_features(path, count, seed=seed)
    damaged, larger = (replace(lab, features=path) for path in stores)
    damaged.train(tmp_path, epochs=3)
    assert outputs(tmp_path) != outputs(finished)
    assert lab.train(tmp_path, epochs=3).trained_steps == 3 * STEPS
    assert outputs(tmp_path) == outputs(finished)
    assert larger.train(tmp_path, epochs=3).trained_steps == 0


def test_no_training_mixes_two_versions_of_a_library(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lab.train(tmp_path, epochs=2)
    before = outputs(tmp_path)
    version = importlib.metadata.version
    with monkeypatch.context() as patch:
        patch.setattr(importlib.metadata, "version", lambda name: f"{version(name)}.new")
        # A finished training stays, and says nothing of versions.
        assert lab.train(tmp_path, epochs=2).trained_steps == 0
        assert outputs(tmp_path) == before
        with interrupted_after(3):
            lab.train(tmp_path, epochs=3)
        saved = version("bitsandbytes")
        assert f"was saved with bitsandbytes {saved}, but {saved}.new is installed" in caplog.text
        assert lab.train(tmp_path, epochs=3).trained_steps == 3 * STEPS - 3
    assert lab.train(tmp_path, epochs=4).trained_steps == 4 * STEPS


@pytest.mark.parametrize("name", ["state.safetensors", "epoch_001.safetensors", "published"])
def test_a_file_that_cannot_be_read_is_not_taken_for_damaged(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The published checkpoints are read where a checkpoint in the scratch folder is lost."""
    lab.train(tmp_path, epochs=2)
    folder = scratch_file(tmp_path, "state.safetensors").parent
    if name == "published":
        (folder / "epoch_001.safetensors").unlink()
    with monkeypatch.context() as patch:
        fail_reads(patch, tmp_path / "checkpoints" if name == "published" else folder / name)
        refusal(lab.train, tmp_path, epochs=3, match=r"safetensors: Input/output error")
    assert lab.train(tmp_path, epochs=3).trained_steps == STEPS


def test_a_divergence_keeps_the_state_before_it(
    lab: Lab, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip: Any = torch.nn.utils.clip_grad_norm_
    overflows = iter([False, False, False, True])
    with monkeypatch.context() as patch:
        patch.setattr(
            torch.nn.utils,
            "clip_grad_norm_",
            lambda *given: torch.tensor(float("nan")) if next(overflows) else clip(*given),
        )
        with pytest.raises(PipelineError, match=r"epoch 2, step 2 .* norm nan.* rate .*train\.learning_rate"):
            lab.train(tmp_path, epochs=3, runtime={"save_every_seconds": 1e9})
    assert lab.train(tmp_path, epochs=3).trained_steps == 3 * STEPS - 3
    assert outputs(tmp_path) == outputs(finished)


# --- damage: it costs few steps -----------------------------------------------------------------------

STATES = ("state.safetensors", "state_before.safetensors")


def test_a_damaged_state_costs_the_steps_since_the_one_before(
    lab: Lab, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run that passes a damaged state over is killed while it saves for the first time."""
    with interrupted_after(3):
        lab.train(tmp_path, epochs=3)
    flip_bit(scratch_file(tmp_path, STATES[0]))
    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "save_tensors", Mock(side_effect=KeyboardInterrupt))
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
