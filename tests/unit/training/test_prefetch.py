"""Steps prepared ahead: the same steps in order, few at a time, and nothing left behind by an early stop.

Run: .venv/bin/python -m pytest tests/unit/training/test_prefetch.py
"""

import threading
from collections.abc import Generator, Iterator
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
from pipeline.training.prefetch import AHEAD, prefetched, take_steps
from tests.unit.training.builders import Lab, interrupted_after, outputs

STEPS = 8


class NotingSteps(StepDataset):
    """Notes which steps are prepared, and fails at the fifth if told to."""

    prepared: list[int]
    fails = False

    def __getitem__(self, index: int) -> Step:
        self.prepared.append(index)
        if self.fails and index == 4:
            raise PipelineError("the disk is gone")
        return super().__getitem__(index)


@pytest.fixture(params=["memory", "disk"])
def steps(lab: Lab, request: pytest.FixtureRequest) -> Iterator[NotingSteps]:
    """One image a step."""
    with lab.data(request.param) as data:
        plan = plan_epoch(data.lengths, replace(lab.params.train, batch_size=1), epoch=1)
        noting = NotingSteps(data, plan, True, ONE_PROCESS)
        noting.prepared = []
        yield noting


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_the_steps_come_in_order(steps: NotingSteps) -> None:
    ahead = list(prefetched(steps, None))
    assert len(ahead) == len(steps) == STEPS
    for index, step in enumerate(ahead):
        ((features, batch),), ((expected, packed),) = step.batches, steps[index].batches
        assert torch.equal(features, expected)
        assert torch.equal(batch.labels, packed.labels)


def test_few_steps_are_prepared_ahead_and_an_early_stop_leaves_no_thread(steps: NotingSteps) -> None:
    ahead = prefetched(steps, None)
    next(ahead)
    assert threads()
    ahead.close()
    assert not threads()
    assert 0 in steps.prepared
    assert max(steps.prepared) <= AHEAD


def test_what_goes_wrong_in_preparing_a_step_is_raised_where_it_is_taken(steps: NotingSteps) -> None:
    steps.fails = True
    ahead = prefetched(steps, None)
    for _ in range(4):
        next(ahead)
    with pytest.raises(PipelineError, match="the disk is gone"):
        next(ahead)
    assert not threads()


def test_a_training_that_prepares_ahead_ends_like_one_that_does_not(
    lab: Lab, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes its steps as on a GPU, and computes on the CPU."""

    def ahead(steps: StepDataset, _: Execution) -> Generator[Step]:
        return prefetched(steps, None)

    monkeypatch.setattr(trainer, "take_steps", ahead)
    with interrupted_after(steps=3):
        lab.train(tmp_path, epochs=3)
    assert not threads()
    lab.train(tmp_path, epochs=3)
    assert outputs(tmp_path) == outputs(finished)


@pytest.mark.parametrize(
    ("device", "pin_memory", "chosen"),
    [
        ("cuda:1", True, [torch.device("cuda", 1)]),
        ("cuda", True, []),  # the first GPU, where a thread starts out
        ("cuda:1", False, []),
        ("cpu", True, []),
    ],
)
def test_steps_are_pinned_for_the_gpu_of_their_process(
    lab: Lab,
    steps: NotingSteps,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    pin_memory: bool,
    chosen: list[torch.device],
) -> None:
    set_for: list[torch.device] = []
    pinned: list[Step] = []

    def pin(self: Step) -> Step:
        pinned.append(self)
        return self

    monkeypatch.setattr(torch.cuda, "set_device", set_for.append)
    monkeypatch.setattr(Step, "pin_memory", pin)
    pretended = replace(lab, placement=Placement(torch.device(device), torch.bfloat16, "pretended"))
    taken = list(take_steps(steps, pretended.execution(tmp_path, pin_memory=pin_memory)))
    assert len(taken) == STEPS
    assert set_for == chosen
    assert pinned == (taken if device != "cpu" and pin_memory else [])
