"""`runtime.trackers`: a tracker gets the numbers of a run while it works, and cannot harm it.

The classes are accelerate's; only the package of a service is a stand-in.
Run: .venv/bin/python -m pytest tests/unit/training/test_trackers.py
"""

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS

from pipeline.errors import PipelineError
from pipeline.hardware.tracking import tracking
from tests.unit.training.builders import Lab, losses, outputs


class StandIn(ModuleType):
    """The package `wandb`, and its only run; `breaks_at` is the step at which the service fails."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.__spec__ = ModuleSpec("wandb", None)
        self.opened: dict[str, Any] = {}
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.is_finished = False
        self.breaks_at = 0
        self.broken: set[str] = set()

    def init(self, **options: Any) -> "StandIn":
        self._fail("init")
        self.opened = options
        return self

    def log(self, values: dict[str, float], step: int) -> None:
        if step == self.breaks_at:
            raise ConnectionError("no route to host")
        self.logged.append((step, values))

    def finish(self) -> None:
        self._fail("finish")
        self.is_finished = True

    def _fail(self, call: str) -> None:
        if call in self.broken:
            raise ConnectionError(f"{call}: no API key")


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    package = StandIn()
    monkeypatch.setitem(sys.modules, "wandb", package)
    return package


def test_a_tracker_gets_each_step_of_a_training(
    lab: Lab, finished: Path, tmp_path: Path, wandb: StandIn
) -> None:
    lab.train(tmp_path, epochs=3, runtime={"trackers": ("wandb",)})
    steps = [step for step, _ in wandb.logged]
    assert steps == list(range(1, len(losses(finished)) + 1))
    tracked = [values["train/loss"] for _, values in wandb.logged]
    assert tracked == pytest.approx(losses(finished), abs=1e-6)
    assert wandb.logged[0][1].keys() == {"train/loss", "train/learning_rate", "train/gradient_norm"}
    assert wandb.opened["project"] == "lightweight-vlm"
    assert wandb.opened["name"].startswith("train ")
    assert wandb.is_finished
    assert outputs(tmp_path) == outputs(finished)


def test_a_service_that_fails_ends_no_training(
    lab: Lab, finished: Path, tmp_path: Path, wandb: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    wandb.breaks_at = 2
    lab.train(tmp_path, epochs=3, runtime={"trackers": ("wandb",)})
    assert outputs(tmp_path) == outputs(finished)
    assert [step for step, _ in wandb.logged] == [1]
    assert caplog.text.count("wandb gets no more numbers: no route to host") == 1


def test_a_package_that_is_absent_is_named_with_its_command(tmp_path: Path) -> None:
    with (
        pytest.raises(PipelineError, match="names mlflow, which is not installed"),
        tracking(["mlflow"], tmp_path, "train", "0f"),
    ):
        pass


def test_a_tracker_that_cannot_finish_ends_no_training_and_hides_no_error(
    lab: Lab, finished: Path, tmp_path: Path, wandb: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    wandb.broken = {"finish"}
    lab.train(tmp_path, epochs=3, runtime={"trackers": ("wandb",)})
    assert outputs(tmp_path) == outputs(finished)
    assert "wandb may lack the last numbers: finish: no API key" in caplog.text
    with pytest.raises(ZeroDivisionError), tracking(["wandb"], tmp_path, "train", "0f"):
        raise ZeroDivisionError


def test_a_tracker_that_does_not_start_is_a_sentence_and_those_before_it_are_finished(
    tmp_path: Path, wandb: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unreachable:
        def __init__(self, *_: object, **__: object) -> None:
            raise ConnectionError("no address")

    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "mlflow", Unreachable)
    monkeypatch.setitem(sys.modules, "mlflow", StandIn())
    with (
        pytest.raises(PipelineError, match=r"mlflow does not start: no address\. Fix: "),
        tracking(["wandb", "mlflow"], tmp_path, "train", "0f"),
    ):
        pass
    assert wandb.is_finished
    wandb.broken = {"init"}
    with (
        pytest.raises(PipelineError, match="wandb does not start: init: no API key"),
        tracking(["wandb"], tmp_path, "train", "0f"),
    ):
        pass
