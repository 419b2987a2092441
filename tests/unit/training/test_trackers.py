"""`runtime.trackers`: a tracker gets the numbers of a run while it works, and cannot harm it.

The classes are accelerate's; only the package of a service is a stand-in.
Run: .venv/bin/python -m pytest tests/unit/training/test_trackers.py
"""

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from unittest.mock import Mock

import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS

from pipeline.hardware.tracking import tracking
from tests.refusals import refusal
from tests.unit.training.builders import Lab, losses, outputs


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """The package `wandb`; `wandb.init.return_value` is its only run."""
    package = Mock(__spec__=ModuleSpec("wandb", None))
    monkeypatch.setitem(sys.modules, "wandb", package)
    return package


def test_a_tracker_gets_each_step(lab: Lab, finished: Path, tmp_path: Path, wandb: Mock) -> None:
    lab.train(tmp_path, epochs=3, runtime={"trackers": ("wandb",)})
    run, opened = wandb.init.return_value, wandb.init.call_args.kwargs
    assert [call.kwargs["step"] for call in run.log.mock_calls] == [*range(1, len(losses(finished)) + 1)]
    tracked = [call.args[0] for call in run.log.mock_calls]
    assert [values["train/loss"] for values in tracked] == pytest.approx(losses(finished), abs=1e-6)
    assert tracked[0].keys() == {"train/loss", "train/learning_rate", "train/gradient_norm"}
    assert opened["project"] == "lightweight-vlm"
    assert opened["name"].startswith("train ")
    run.finish.assert_called_once_with()
    assert outputs(tmp_path) == outputs(finished)


def test_a_service_that_fails_ends_no_training(
    lab: Lab, finished: Path, tmp_path: Path, wandb: Mock, caplog: pytest.LogCaptureFixture
) -> None:
    run = wandb.init.return_value
    run.log.side_effect = [None, ConnectionError("no route to host")]
    lab.train(tmp_path, epochs=3, runtime={"trackers": ("wandb",)})
    assert outputs(tmp_path) == outputs(finished)
    assert run.log.call_count == 2
    assert caplog.text.count("wandb gets no more numbers: no route to host") == 1


def test_a_tracker_that_cannot_finish_hides_no_error(
    tmp_path: Path, wandb: Mock, caplog: pytest.LogCaptureFixture
) -> None:
    wandb.init.return_value.finish.side_effect = ConnectionError("no API key")
    with pytest.raises(ZeroDivisionError), tracking(["wandb"], tmp_path, "train", "0f"):
        raise ZeroDivisionError
    assert "wandb may lack the last numbers: no API key" in caplog.text


def start(folder: Path, *names: str) -> None:
    tracking(names, folder, "train", "0f").__enter__()


def test_a_package_that_is_absent_is_named(tmp_path: Path) -> None:
    refusal(start, tmp_path, "mlflow", match="names mlflow, which is not installed")


def test_a_tracker_that_does_not_start_is_a_sentence(
    tmp_path: Path, wandb: Mock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "mlflow", Mock(side_effect=ConnectionError("no address")))
    monkeypatch.setitem(sys.modules, "mlflow", wandb)
    refusal(start, tmp_path, "wandb", "mlflow", match="mlflow does not start: no address. Fix: ")
    wandb.init.return_value.finish.assert_called_once_with()
    wandb.init.side_effect = ConnectionError("no API key")
    refusal(start, tmp_path, "wandb", match="wandb does not start: no API key")
