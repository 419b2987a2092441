"""What of a kept training is damaged costs as little as may be, and never a byte of the result.

Run: .venv/bin/python -m pytest tests/unit/training/test_damaged_training.py
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from pipeline.model.checkpoints import load_checkpoint, save_checkpoint
from pipeline.training import run_folder
from tests.unit.training.builders import STEPS, Lab, checkpoint, interrupted_after, outputs

STATES = ("state.safetensors", "state_before.safetensors")


def kept(folder: Path, name: str = STATES[0]) -> Path:
    """A file in the scratch folder of the one training there."""
    (found,) = (folder / "scratch").glob(f"*/{name}")
    return found


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def kill(*_: object) -> NoReturn:
    raise KeyboardInterrupt


SPOIL = pytest.mark.parametrize("spoil", [flip, Path.unlink])


def test_a_damaged_state_costs_the_steps_since_the_one_before_and_never_takes_its_place(
    lab: Lab, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run that passes a damaged state over is killed while it saves for the first time."""
    with interrupted_after(3):
        lab.train(tmp_path, epochs=3)
    flip(kept(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "save_tensors", kill)
        with pytest.raises(KeyboardInterrupt):
            lab.train(tmp_path, epochs=3)
    # Saved at the end of each step and of each epoch: the state before is that of the epoch's end.
    assert lab.train(tmp_path, epochs=3).trained_steps == 3 * STEPS - 2
    assert outputs(tmp_path) == outputs(finished)


@pytest.mark.parametrize("foreign", [False, True], ids=["damaged", "of another run"])
def test_with_no_good_state_a_run_starts_afresh(
    lab: Lab, finished: Path, tmp_path: Path, foreign: bool
) -> None:
    lab.train(tmp_path, epochs=3)
    if foreign:
        lab.train(tmp_path / "other", epochs=3, seed=1)
    for name in STATES:
        if foreign:
            shutil.copy(kept(tmp_path / "other", name), kept(tmp_path, name))
        else:
            flip(kept(tmp_path, name))
    assert lab.train(tmp_path, epochs=3).trained_steps == 3 * STEPS
    assert outputs(tmp_path) == outputs(finished)


@SPOIL
@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_kept_checkpoint_that_is_lost_is_copied_from_the_outputs(
    lab: Lab, finished: Path, tmp_path: Path, spoil: Callable[[Path], None], epoch: int
) -> None:
    lab.train(tmp_path, epochs=3)
    lost = kept(tmp_path, f"epoch_00{epoch}.safetensors")
    before = lost.read_bytes()
    spoil(lost)
    assert lab.train(tmp_path, epochs=3).trained_steps == 0
    assert lost.read_bytes() == before
    assert outputs(tmp_path) == outputs(finished)


def test_a_published_checkpoint_with_other_weights_is_no_copy_of_a_lost_one(
    lab: Lab, finished: Path, tmp_path: Path
) -> None:
    """The same training on another GPU, or with other versions of the libraries."""
    lab.train(tmp_path, epochs=3)
    published = load_checkpoint(checkpoint(tmp_path))
    other = {name: value + 1e-3 for name, value in published.projector.state_dict().items()}
    save_checkpoint(checkpoint(tmp_path), {**other, **published.adapters}, published.info)
    kept(tmp_path, "epoch_001.safetensors").unlink()
    assert lab.train(tmp_path, epochs=3).trained_steps == 3 * STEPS
    assert outputs(tmp_path) == outputs(finished)


@SPOIL
def test_the_checkpoint_of_the_epoch_that_just_ended_is_made_from_the_state(
    lab: Lab, finished: Path, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    lab.train(tmp_path, epochs=2)
    shutil.rmtree(tmp_path / "checkpoints")
    spoil(kept(tmp_path, "epoch_002.safetensors"))
    assert lab.train(tmp_path, epochs=3).trained_steps == STEPS
    assert outputs(tmp_path) == outputs(finished)


def test_or_from_the_state_before_at_the_cost_of_the_steps_between(
    lab: Lab, finished: Path, tmp_path: Path
) -> None:
    with interrupted_after(STEPS + 1):
        lab.train(tmp_path, epochs=3)
    flip(kept(tmp_path, "epoch_001.safetensors"))
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
    lost = kept(tmp_path, "epoch_001.safetensors")
    lab.train(tmp_path, epochs=3, seed=1)
    spoil(lost)
    assert lab.train(tmp_path, epochs=3).trained_steps == 3 * STEPS
    assert outputs(tmp_path) == outputs(finished)
    assert f"{lost} is damaged or gone, and {tmp_path / 'checkpoints'} has no whole copy of it" in caplog.text
    assert f"New training from step 1: no state in {lost.parent} can be continued" in caplog.text
