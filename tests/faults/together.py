"""Others act while a stage runs: a second run of it, somebody who replaces an image."""

import os
import random
import signal
import socket
from pathlib import Path

from pipeline.captions import read_images
from tests.faults import child
from tests.faults.child import Attempt, Fault
from tests.faults.lab import Lab, Tally


def two_runs(lab: Lab, stage: str, times: int, seed: int) -> Tally:
    """The second run is told who holds the work; the first ends as if alone; a killed one holds nothing."""
    tally = Tally(f"{stage}: two runs at once")
    rng = random.Random(f"{stage} {seed}")
    with lab.project(stage) as folder:
        whole = child.run(folder, stage)
    while tally.tried < times:
        with lab.project(stage) as folder:
            # After the first changes, which are those of the lock itself.
            first = _stopped(folder, stage, rng.randint(whole.changes // 3, whole.changes - 1))
            if first is None:
                tally.pass_over("the first run never came to the change at which it was to wait")
                continue
            second = child.run(folder, stage)
            named = f"process {first.process.pid} on {socket.gethostname()} since " in second.printed
            tally.check(second.refused and named, f"the second: {second.last_line}")
            if rng.random() < 0.5:
                _continue(first)
                first.end()
            else:
                first.process.kill()
                first.end()
                child.run(folder, stage)
            wrong = lab.wrong(folder, stage)
            if wrong:
                tally.lost.append(f"the first: {wrong}")
    return tally


def replaced_image(lab: Lab, stage: str, times: int, seed: int) -> Tally:
    """An image is replaced while the stage runs: it is named, and with the old one back all is well."""
    tally = Tally(f"{stage}: an image replaced meanwhile")
    rng = random.Random(f"{stage} {seed}")
    with lab.project(stage) as folder:
        whole = child.run(folder, stage)
        listed = read_images(folder / "data/images.jsonl")
    while tally.tried < times:
        with lab.project(stage) as folder:
            running = _stopped(folder, stage, rng.randint(1, whole.changes // 3))
            if running is None:
                tally.pass_over("the run never came to the change at which it was to wait")
                continue
            # One that every stage reads, and comes to late.
            image = folder / [i for i in listed if i.image_id.startswith("test")][-1].path
            other = folder / listed[0].path
            before = image.read_bytes()
            image.write_bytes(other.read_bytes())
            _continue(running)
            ended = running.end()
            named = ended.refused and image.name in ended.printed
            # Or it had been read before.
            in_time = ended.code == 0 and not lab.wrong(folder, stage)
            tally.check(named or in_time, ended.last_line)
            image.write_bytes(before)
            child.run(folder, stage)
            wrong = lab.wrong(folder, stage)
            if wrong:
                tally.lost.append(f"with the old image: {wrong}")
    return tally


def _stopped(folder: Path, stage: str, at_change: int) -> Attempt | None:
    """A run that stands still before that change; None where it never came to it."""
    running = child.start(folder, stage, Fault(at_change=at_change, signal=signal.SIGSTOP))
    if running.wait_until_stopped():
        return running
    running.end()
    return None


def _continue(running: Attempt) -> None:
    os.kill(running.process.pid or 0, signal.SIGCONT)
