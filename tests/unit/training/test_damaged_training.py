"""What of a kept training is damaged costs as little as may be, and never a byte of the result.

Run: .venv/bin/python -m pytest tests/unit/training/test_damaged_training.py
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from pipeline.training import state
from tests.training_lab import STEPS, Lab, interrupted_after, outputs


def state_of(folder: Path, name: str = "state.safetensors") -> Path:
    (found,) = (folder / "scratch").glob(f"*/{name}")
    return found


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def kill(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def test_a_damaged_state_costs_the_steps_since_the_one_before(
    lab: Lab, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with interrupted_after(monkeypatch, 3):
        lab.train(tmp_path, epochs=3)
    flip(state_of(tmp_path))
    # Saved at the end of each step and of each epoch: the state before is that of the epoch's end.
    assert lab.train(tmp_path, epochs=3).trained_steps == 3 * STEPS - 2
    assert outputs(tmp_path) == outputs(finished)


def test_with_both_states_damaged_a_run_starts_afresh(lab: Lab, finished: Path, tmp_path: Path) -> None:
    lab.train(tmp_path, epochs=3)
    flip(state_of(tmp_path))
    flip(state_of(tmp_path, "state_before.safetensors"))
    assert lab.train(tmp_path, epochs=3).trained_steps == 3 * STEPS
    assert outputs(tmp_path) == outputs(finished)


def test_a_damaged_state_never_takes_the_place_of_a_good_one(
    lab: Lab, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run that passes a damaged state over is killed while it saves for the first time."""
    with interrupted_after(monkeypatch, 3):
        lab.train(tmp_path, epochs=3)
    flip(state_of(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(state, "save_tensors", kill)
        with pytest.raises(KeyboardInterrupt):
            lab.train(tmp_path, epochs=3)
    assert lab.train(tmp_path, epochs=3).trained_steps == 3 * STEPS - 2
    assert outputs(tmp_path) == outputs(finished)


SPOIL = pytest.mark.parametrize("spoil", [flip, Path.unlink])


@SPOIL
@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_kept_checkpoint_that_is_lost_is_had_from_the_outputs(
    lab: Lab, finished: Path, tmp_path: Path, spoil: Callable[[Path], None], epoch: int
) -> None:
    lab.train(tmp_path, epochs=3)
    kept = state_of(tmp_path, f"epoch_00{epoch}.safetensors")
    before = kept.read_bytes()
    spoil(kept)
    assert lab.train(tmp_path, epochs=3).trained_steps == 0
    assert kept.read_bytes() == before
    assert outputs(tmp_path) == outputs(finished)


@SPOIL
def test_the_checkpoint_of_the_epoch_that_just_ended_is_had_from_the_state(
    lab: Lab, finished: Path, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    lab.train(tmp_path, epochs=2)
    shutil.rmtree(tmp_path / "checkpoints")
    spoil(state_of(tmp_path, "epoch_002.safetensors"))
    assert lab.train(tmp_path, epochs=3).trained_steps == STEPS
    assert outputs(tmp_path) == outputs(finished)


def test_or_from_the_state_before_at_the_cost_of_the_steps_between(
    lab: Lab, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with interrupted_after(monkeypatch, STEPS + 1):
        lab.train(tmp_path, epochs=3)
    flip(state_of(tmp_path, "epoch_001.safetensors"))
    assert lab.train(tmp_path, epochs=3).trained_steps == 2 * STEPS
    assert outputs(tmp_path) == outputs(finished)


@SPOIL
def test_a_checkpoint_that_is_nowhere_else_starts_afresh_and_says_why(
    lab: Lab,
    finished: Path,
    tmp_path: Path,
    spoil: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The outputs are those of another training by then."""
    lab.train(tmp_path, epochs=3)
    kept = state_of(tmp_path, "epoch_001.safetensors")
    lab.train(tmp_path, epochs=3, seed=1)
    spoil(kept)
    assert lab.train(tmp_path, epochs=3).trained_steps == 3 * STEPS
    assert outputs(tmp_path) == outputs(finished)
    assert f"{kept} is damaged or gone, and {tmp_path / 'checkpoints'} has no whole copy of it" in caplog.text
    assert f"no state in {kept.parent} can be continued: training starts afresh" in caplog.text


def test_a_state_of_another_run_is_passed_over(lab: Lab, finished: Path, tmp_path: Path) -> None:
    lab.train(tmp_path / "other", epochs=3, seed=1)
    lab.train(tmp_path, epochs=3)
    for name in ("state.safetensors", "state_before.safetensors"):
        shutil.copy(state_of(tmp_path / "other", name), state_of(tmp_path, name))
    assert lab.train(tmp_path, epochs=3).trained_steps == 3 * STEPS
    assert outputs(tmp_path) == outputs(finished)
