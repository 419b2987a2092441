"""Steps prepared ahead: the same steps in order, few at a time, and nothing left behind by who stops early.

Run: .venv/bin/python -m pytest tests/unit/training/test_prefetch.py
"""

import threading
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch

from pipeline.errors import PipelineError
from pipeline.hardware.device import Placement
from pipeline.hardware.processes import ONE_PROCESS
from pipeline.text.token_store import read_tokens
from pipeline.training import trainer
from pipeline.training.batches import Row, Step, StepDataset, plan_epoch
from pipeline.training.prefetch import AHEAD, prefetched
from pipeline.training.trainer import Trainer
from tests.training_lab import Lab, interrupted_after, outputs

STEPS = 8


def steps_of(lab: Lab, where: Literal["memory", "disk"] = "memory") -> StepDataset:
    """One image a step."""
    tokens = read_tokens(lab.tokens, "train")
    params = replace(lab.params.train, batch_size=1)
    plan = plan_epoch([[len(c) + 1 for c in captions] for captions in tokens.captions], params, epoch=1)
    return StepDataset(lab.open_features(where), tokens, plan, 9, True, ONE_PROCESS)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("prefetch")]


@pytest.fixture
def on_a_pretended_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trainer takes its steps as on a GPU, and computes on the CPU."""

    def steps(self: Trainer, plan: list[list[list[Row]]]) -> Generator[Step]:
        return prefetched(self._dataset(plan[self.state.step :]), None)

    monkeypatch.setattr(Trainer, "_steps", steps)


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_the_steps_come_in_order(lab: Lab, where: Literal["memory", "disk"]) -> None:
    steps = steps_of(lab, where)
    ahead = list(prefetched(steps, None))
    assert len(ahead) == len(steps) == STEPS
    for index, step in enumerate(ahead):
        ((features, batch),), ((expected, packed),) = step.batches, steps[index].batches
        assert torch.equal(features, expected)
        assert torch.equal(batch.labels, packed.labels)


def test_few_steps_are_prepared_ahead(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare, prepared = StepDataset.__getitem__, []

    def note(self: StepDataset, index: int) -> Step:
        prepared.append(index)
        return prepare(self, index)

    monkeypatch.setattr(StepDataset, "__getitem__", note)
    ahead = prefetched(steps_of(lab), None)
    next(ahead)
    ahead.close()
    assert 0 in prepared
    assert max(prepared) <= AHEAD


def test_who_stops_early_leaves_no_thread(lab: Lab) -> None:
    ahead = prefetched(steps_of(lab), None)
    next(ahead)
    assert threads()
    ahead.close()
    assert not threads()


def test_what_goes_wrong_in_preparing_a_step_is_raised_where_it_is_taken(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = StepDataset.__getitem__

    def fail_at_the_fifth(self: StepDataset, index: int) -> Step:
        if index == 4:
            raise PipelineError("the disk is gone")
        return prepare(self, index)

    monkeypatch.setattr(StepDataset, "__getitem__", fail_at_the_fifth)
    ahead = prefetched(steps_of(lab), None)
    for _ in range(4):
        next(ahead)
    with pytest.raises(PipelineError, match="the disk is gone"):
        next(ahead)
    assert not threads()


@pytest.mark.usefixtures("on_a_pretended_gpu")
def test_a_training_that_prepares_ahead_ends_like_one_that_does_not(
    lab: Lab, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with interrupted_after(monkeypatch, steps=3):
        lab.train(tmp_path, epochs=3)
    assert not threads()
    lab.train(tmp_path, epochs=3)
    assert outputs(tmp_path) == outputs(finished)


@pytest.mark.parametrize(("pin_memory", "pinned_for"), [(True, torch.device("cuda", 1)), (False, None)])
def test_on_a_gpu_steps_are_pinned_for_it(
    lab: Lab,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pin_memory: bool,
    pinned_for: torch.device | None,
) -> None:
    asked: list[torch.device | None] = []

    def note(_: StepDataset, device: torch.device | None) -> Generator[Step]:
        asked.append(device)
        raise KeyboardInterrupt

    run = Trainer.run

    def run_on_a_gpu(self: Trainer) -> int:
        self._placement = Placement(torch.device("cuda", 1), torch.bfloat16, "pretended")
        return run(self)

    monkeypatch.setattr(trainer, "prefetched", note)
    monkeypatch.setattr(Trainer, "run", run_on_a_gpu)
    monkeypatch.setattr(Trainer, "_try_largest", lambda *_: None)
    monkeypatch.setattr(trainer, "CostMeter", lambda *_: None)
    pinned = replace(lab.params, runtime=replace(lab.params.runtime, pin_memory=pin_memory))
    with pytest.raises(KeyboardInterrupt):
        replace(lab, params=pinned).train(tmp_path)
    assert asked == [pinned_for]


@pytest.mark.parametrize(("device", "chosen"), [("cuda:1", [torch.device("cuda", 1)]), ("cuda", [])])
def test_the_thread_pins_for_the_gpu_of_its_process(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, device: str, chosen: list[torch.device]
) -> None:
    """`cuda` is the first GPU, where a thread starts out; a device without a number cannot be chosen."""
    set_for: list[torch.device] = []
    pinned: list[Step] = []

    def pin(self: Step) -> Step:
        pinned.append(self)
        return self

    monkeypatch.setattr(torch.cuda, "set_device", set_for.append)
    monkeypatch.setattr(Step, "pin_memory", pin)
    steps = list(prefetched(steps_of(lab), torch.device(device)))
    assert set_for == chosen
    assert pinned == steps
