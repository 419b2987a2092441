"""Two processes, each with its own folder as on two machines, train as one does or stop with a sentence.

Run: .venv/bin/python -m pytest tests/unit/training/test_several_machines.py
"""

import multiprocessing
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import PipelineError
from pipeline.hardware.processes import join_processes
from tests.unit.training.builders import STEPS, Lab, flip_bit, interrupted_after, losses, scratch_file

_SERVER = multiprocessing.get_context("forkserver")
_LIBRARIES = ("accelerate.state", "bitsandbytes", "transformers.models.llama.modeling_llama")
_SERVER.set_forkserver_preload(["tests.unit.training.builders", *_LIBRARIES])


def train_on_two_machines(
    lab: Lab, folders: tuple[Path, Path], *changes: dict[str, Any], **shared: Any
) -> list[str]:
    """Train in two processes, with `changes` of each and `shared` changes; return what they report."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    reader, writer = _SERVER.Pipe(duplex=False)
    processes = []
    for rank, (folder, change) in enumerate(zip(folders, changes or ({}, {}), strict=True)):
        arguments = (rank, port, writer, lab, folder, {**shared, **change})
        processes.append(_SERVER.Process(target=_train, args=arguments))
        processes[-1].start()
    reports = dict(reader.recv() for _ in processes)
    for process in processes:
        process.join()
    return [reports[0], reports[1]]


def _train(rank: int, port: int, writer: Any, lab: Lab, folder: Path, changes: dict[str, Any]) -> None:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in place.items()} | {"MASTER_ADDR": "127.0.0.1"}
    try:
        with join_processes(lab.placement, 2) as (processes, _):
            summary = lab.train(folder, processes=processes, **changes)
            writer.send((rank, f"{summary.trained_steps} steps"))
    except Exception as error:
        writer.send((rank, str(error) if isinstance(error, PipelineError) else repr(error)))


@pytest.fixture
def machines(tmp_path: Path) -> tuple[Path, Path]:
    """The folders of two machines that share nothing."""
    folders = tmp_path / "first", tmp_path / "second"
    for folder in folders:
        folder.mkdir()
    return folders


def test_two_machines_train_as_one_process(lab: Lab, finished: Path, machines: tuple[Path, Path]) -> None:
    """The second has no state."""
    first, second = machines
    train_on_two_machines(lab, machines, epochs=1)
    assert train_on_two_machines(lab, machines, epochs=3) == [f"{2 * STEPS} steps"] * 2
    assert losses(first) == pytest.approx(losses(finished), rel=1e-4)
    # Only the first process writes.
    assert list(second.iterdir()) == []


@pytest.mark.parametrize(("damaged", "done"), [(0, STEPS), (1, 3)], ids=["first", "second"])
def test_a_state_damaged_on_one_machine_sets_both_back(
    lab: Lab, finished: Path, machines: tuple[Path, Path], damaged: int, done: int
) -> None:
    """Each has trained alone for three steps; the state before is that of the epoch's end."""
    for folder in machines:
        with interrupted_after(3):
            lab.train(folder, epochs=3)
    flip_bit(scratch_file(machines[damaged], "state.safetensors"))
    assert train_on_two_machines(lab, machines, epochs=3) == [f"{3 * STEPS - done} steps"] * 2
    assert losses(machines[0]) == pytest.approx(losses(finished), rel=1e-4)


@pytest.mark.parametrize(
    ("change", "named"),
    [({"learning_rate": 0.25}, "train.learning_rate is 0.25 "), ({"epochs": 2}, "epochs is 2 ")],
    ids=["fingerprint", "epochs"],
)
def test_processes_of_other_settings_stop(
    lab: Lab, machines: tuple[Path, Path], change: dict[str, Any], named: str
) -> None:
    reports = train_on_two_machines(lab, machines, {"epochs": 1}, {"epochs": 1, **change})
    assert reports[0] == reports[1]
    assert f"{named}in process 1" in reports[0]
    assert not (machines[0] / "checkpoints").exists()


def test_a_process_that_loses_the_other_says_so(lab: Lab, machines: tuple[Path, Path]) -> None:
    """The second process refuses its parameters."""
    reports = train_on_two_machines(lab, machines, {}, {"batch_size": 0})
    assert "batch_size" in reports[1]
    assert "Another process of this training has stopped" in reports[0]
