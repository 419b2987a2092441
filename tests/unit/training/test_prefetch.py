"""Steps prepared ahead: in order, few at a time, and without a thread after an early stop.

Run: .venv/bin/python -m pytest tests/unit/training/test_prefetch.py
"""

import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.errors import PipelineError
from pipeline.hardware.device import Placement
from pipeline.hardware.execution import Execution
from pipeline.hardware.processes import ONE_PROCESS
from pipeline.training import trainer
from pipeline.training.batches import Step, StepDataset, plan_epoch
from pipeline.training.prefetch import AHEAD, prefetch_steps, take_steps
from tests.refusals import refusal
from tests.unit.training.builders import Lab, interrupted_after, outputs


class NotedSteps(StepDataset):
    """Notes which step was prepared last, and fails at one if it is told so."""

    fails_at: int | None = None

    def __getitem__(self, index: int) -> Step:
        self.prepared = index
        if index == self.fails_at:
            raise PipelineError("the disk is gone")
        return super().__getitem__(index)


@contextmanager
def eight_steps(lab: Lab) -> Iterator[NotedSteps]:
    """Steps of one image each."""
    with lab.data() as data:
        plan = plan_epoch(data.lengths, replace(lab.params.train, batch_size=1), epoch=1)
        yield NotedSteps(data, plan, lab.params.train, 1, ONE_PROCESS)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_few_steps_are_prepared_ahead_and_neither_a_stop_nor_an_error_leaves_a_thread(lab: Lab) -> None:
    with eight_steps(lab) as steps:
        ahead = prefetch_steps(steps, None)
        next(ahead)
        assert threads()
        ahead.close()
        assert not threads()
        assert steps.prepared <= AHEAD
        steps.fails_at = 4
        refusal(list, prefetch_steps(steps, None), match="the disk is gone")
        assert not threads()


def test_preparing_ahead_changes_no_byte(
    lab: Lab, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes its steps as on a GPU, and computes on the CPU."""

    def prepare_ahead(steps: StepDataset, _: Execution) -> Generator[Step]:
        return prefetch_steps(steps, None)

    monkeypatch.setattr(trainer, "take_steps", prepare_ahead)
    with interrupted_after(steps=3):
        lab.train(tmp_path, epochs=3)
    assert not threads()
    lab.train(tmp_path, epochs=3)
    assert outputs(tmp_path) == outputs(finished)


@pytest.mark.parametrize(
    ("device", "pin_memory", "gpus"),
    [("cuda:1", True, [1]), ("cuda", True, []), ("cuda:1", False, []), ("cpu", True, [])],
)
def test_steps_are_pinned_for_the_gpu_of_their_process(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, pin_memory: bool, gpus: list[int]
) -> None:
    """A new thread uses the first GPU by itself."""
    chosen: list[torch.device] = []
    pinned: list[Step] = []

    def pin(step: Step) -> Step:
        pinned.append(step)
        return step

    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(Step, "pin_memory", pin)
    pretended = replace(lab, placement=Placement(torch.device(device), torch.bfloat16, "pretended"))
    with eight_steps(lab) as steps:
        taken = list(take_steps(steps, pretended.execution(tmp_path, pin_memory=pin_memory)))
    assert len(taken) == 8
    assert [gpu.index for gpu in chosen] == gpus
    assert pinned == (taken if device != "cpu" and pin_memory else [])
