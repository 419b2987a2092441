"""However a run of training was cut up, its checkpoints are the same bytes.

Run: .venv/bin/python -m pytest tests/unit/training/test_resuming.py
"""

import importlib.metadata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline import result_code
from pipeline.errors import PipelineError
from tests.edited_code import EditCode
from tests.refusals import fail_reads
from tests.unit.training.builders import (
    LORA,
    STEPS,
    Lab,
    checkpoint,
    interrupted_after,
    outputs,
    save_features,
)

ADAPTERS = replace(LORA, dropout=0.2)


@pytest.mark.parametrize(
    ("changes", "steps", "seconds", "kept"),
    [
        *(({}, steps, 1e-9, steps) for steps in (1, 2, 3, 5)),
        # It was saved at the end of the epoch alone.
        ({}, STEPS + 1, 1e9, STEPS),
        *(({"dropout": 0.3, "lora": ADAPTERS}, steps, 1e-9, steps) for steps in (1, 2, 3)),
    ],
)
def test_an_interrupted_run_continues_to_the_same_bytes(
    lab: Lab, finished: Path, tmp_path: Path, changes: dict[str, Any], steps: int, seconds: float, kept: int
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
    assert lab.train(parts, epochs=3, **changes).trained_steps == 3 * STEPS - kept
    assert outputs(parts) == outputs(whole)


def test_more_epochs_continue_to_what_a_longer_run_gives(lab: Lab, finished: Path, tmp_path: Path) -> None:
    lab.train(tmp_path, epochs=1)
    assert lab.train(tmp_path, epochs=3).trained_steps == 2 * STEPS
    assert outputs(tmp_path) == outputs(finished)


def test_fewer_epochs_remove_the_surplus_and_train_nothing(lab: Lab, tmp_path: Path) -> None:
    lab.train(tmp_path, epochs=1)
    of_one = outputs(tmp_path)
    lab.train(tmp_path, epochs=2)
    done = lab.train(tmp_path, epochs=1)
    assert (done.epochs, done.steps, done.trained_steps) == (1, STEPS, 0)
    assert outputs(tmp_path) == of_one


def test_a_schedule_that_depends_on_the_epochs_does_not_continue(lab: Lab, tmp_path: Path) -> None:
    lab.train(tmp_path, epochs=1, schedule="cosine")
    assert lab.train(tmp_path, epochs=2, schedule="cosine").trained_steps == 2 * STEPS


@pytest.mark.parametrize(
    "changes",
    [
        {"learning_rate": 3e-3},
        {"seed": 1},
        {"ema_decay": 0.0},
        {"supervise_eos": False},
        {"lora": replace(ADAPTERS, rank=2)},
        {"lora": replace(ADAPTERS, alpha=8.0)},
        {"lora": replace(ADAPTERS, dropout=0.0)},
        {"lora": replace(ADAPTERS, targets=("q_proj",))},
        {"lora": replace(ADAPTERS, rank=0)},
    ],
    ids=str,
)
def test_another_parameter_starts_afresh(lab: Lab, tmp_path: Path, changes: dict[str, Any]) -> None:
    usual: dict[str, Any] = {"lora": ADAPTERS}
    lab.train(tmp_path, epochs=1, **usual)
    before = outputs(tmp_path)
    assert lab.train(tmp_path, epochs=1, **{**usual, **changes}).trained_steps == STEPS
    assert outputs(tmp_path)[checkpoint(tmp_path).name] != before[checkpoint(tmp_path).name]
    assert len(list((tmp_path / "scratch").iterdir())) == 2
    # And back: what was trained is still there.
    assert lab.train(tmp_path, epochs=1, **usual).trained_steps == 0
    assert outputs(tmp_path) == before


def test_other_features_of_the_same_images_start_afresh(lab: Lab, finished: Path, tmp_path: Path) -> None:
    """Trained on damaged features, whose ids and digests of images were right, then mended."""
    damaged = replace(lab, features=tmp_path / "features.h5")
    save_features(damaged.features, 8, seed=1)
    damaged.train(tmp_path, epochs=3)
    assert outputs(tmp_path) != outputs(finished)
    assert lab.train(tmp_path, epochs=3).trained_steps == 3 * STEPS
    assert outputs(tmp_path) == outputs(finished)


def test_features_of_images_that_are_not_trained_on_do_not_matter(
    lab: Lab, finished: Path, tmp_path: Path
) -> None:
    more = replace(lab, features=tmp_path / "features.h5")
    save_features(more.features, 9)
    more.train(tmp_path, epochs=3)
    assert outputs(tmp_path) == outputs(finished)


def test_other_code_starts_afresh(lab: Lab, tmp_path: Path, edit_code: EditCode) -> None:
    """An edit of what computes a step does; an edit of what only measures, shows or captions does not."""
    lab.train(tmp_path, epochs=1)
    for name in (*result_code.TRAIN.without, "hardware/device.py", "evaluation/predictor.py"):
        with edit_code(name):
            assert lab.train(tmp_path, epochs=1).trained_steps == 0, name
    for name in ("training/optimizer.py", "model/packing.py", "hardware/processes.py"):
        with edit_code(name):
            assert lab.train(tmp_path, epochs=1).trained_steps == STEPS, name
    assert lab.train(tmp_path, epochs=1).trained_steps == 0


def test_no_training_mixes_steps_of_two_versions_of_a_library(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lab.train(tmp_path, epochs=2)
    before = outputs(tmp_path)
    version = importlib.metadata.version
    with monkeypatch.context() as patch:
        patch.setattr(importlib.metadata, "version", lambda name: f"{version(name)}.new")
        # What is finished stays, and says nothing of versions.
        assert lab.train(tmp_path, epochs=2).trained_steps == 0
        assert outputs(tmp_path) == before
        with interrupted_after(3):
            lab.train(tmp_path, epochs=3)
        saved = version("bitsandbytes")
        assert f"was saved with bitsandbytes {saved}, and {saved}.new is installed" in caplog.text
        assert lab.train(tmp_path, epochs=3).trained_steps == 3 * STEPS - 3
    assert lab.train(tmp_path, epochs=4).trained_steps == 4 * STEPS


@pytest.mark.parametrize("name", ["state.safetensors", "epoch_001.safetensors", "published"])
def test_what_a_training_cannot_read_now_is_not_passed_over_as_damaged(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The published checkpoints are read where a kept one is lost."""
    lab.train(tmp_path, epochs=2)
    (folder,) = (tmp_path / "scratch").iterdir()
    if name == "published":
        (folder / "epoch_001.safetensors").unlink()
    with monkeypatch.context() as patch:
        fail_reads(patch, tmp_path / "checkpoints" if name == "published" else folder / name)
        with pytest.raises(PipelineError, match=r"cannot read .*safetensors: Input/output error; it is left"):
            lab.train(tmp_path, epochs=3)
    assert lab.train(tmp_path, epochs=3).trained_steps == STEPS


def test_after_a_divergence_the_state_before_it_is_kept(
    lab: Lab, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = 0

    def overflow(*_: object) -> torch.Tensor:
        nonlocal taken
        taken += 1
        return torch.tensor(float("nan")) if taken == 4 else clip(*_)

    clip: Callable[..., torch.Tensor] = torch.nn.utils.clip_grad_norm_
    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.utils, "clip_grad_norm_", overflow)
        with pytest.raises(PipelineError, match=rf"step 2: .* kept in {tmp_path}"):
            lab.train(tmp_path, epochs=3, runtime={"save_every_seconds": 1e9})
    assert lab.train(tmp_path, epochs=3).trained_steps == 3 * STEPS - 3
    assert outputs(tmp_path) == outputs(finished)
