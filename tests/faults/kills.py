"""SIGKILL and Ctrl-C: the next run ends with the bytes of an undisturbed one."""

import random
import signal
from pathlib import Path
from typing import Any

from tests.faults import child
from tests.faults.child import Ended, Fault
from tests.faults.lab import Lab, Tally
from tests.faults.work import lost_by_a_kill
from tests.params_files import with_changes, write_params

# That many kills in a row at most, before a run is let through.
_IN_A_ROW = 3


def kill_at_random(folder: Path, stage: str, whole: Ended, rng: random.Random) -> tuple[Ended, str]:
    """Kill a stage by the clock, or just before a change of files; returns how it ended and when."""
    if rng.random() < 0.5:
        at = rng.randint(1, whole.changes)
        return child.run(folder, stage, Fault(at_change=at)), f"before change {at} of {whole.changes}"
    seconds = rng.uniform(0, whole.seconds)
    return child.start(folder, stage).end(seconds), f"after {seconds:.3f} s"


def kill(lab: Lab, stage: str, kills: int) -> Tally:
    """Kill a stage `kills` times, and run it to its end after some of them.

    A loss is also what the runs after kills do again beyond what a kill may cost.
    """
    tally = Tally(f"{stage}: killed")
    rng = random.Random(tally.kind)
    with lab.project(stage) as folder:
        whole = child.run(folder, stage)
        assert lab.right(folder, stage, whole)
    while tally.tried < kills and len(tally.lost) < kills:
        with lab.project(stage) as folder:
            killed: list[Ended] = []
            for _ in range(min(rng.randint(1, _IN_A_ROW), kills - tally.tried)):
                ended, moment = kill_at_random(folder, stage, whole, rng)
                if not ended.killed:
                    break
                killed.append(ended)
                tally.check(lab.intact(folder, stage), f"{moment}: an output was neither old nor new")
            done = child.run(folder, stage)
            tally.require(lab.right(folder, stage, done), f"the run after the kills: {done.last_line}")
            again = done.work + sum(ended.work for ended in killed) - whole.work
            allowed = len(killed) * lost_by_a_kill(stage, lab.params)
            tally.require(again <= allowed, f"after {len(killed)} kills {again} were done again")
    return tally


def kill_then_change(lab: Lab, change: dict[str, Any], kills: int) -> Tally:
    """Kill training, then change a parameter: the bytes of a run that had it from the start."""
    tally = Tally(f"train: killed, then another {', '.join(change)}")
    rng = random.Random(tally.kind)
    changed = with_changes(lab.params, train=change)
    with lab.project("train") as folder:
        whole = child.run(folder, "train")
    with lab.project("train") as folder:
        write_params(folder / "params.yaml", changed)
        child.run(folder, "train")
        expected = lab.outputs(folder, "train")
    for _ in range(kills):
        with lab.project("train") as folder:
            _, moment = kill_at_random(folder, "train", whole, rng)
            write_params(folder / "params.yaml", changed)
            done = child.run(folder, "train")
            tally.check(lab.outputs(folder, "train") == expected, f"{moment}: {done.last_line}")
    return tally


def interrupt_swap(lab: Lab, stage: str) -> Tally:
    """Press Ctrl-C between the two renames of a folder, also after a kill there: the old folder is back."""
    tally = Tally(f"{stage}: interrupted between two renames")
    for killed_before in (False, True):
        with lab.project(stage) as folder:
            if killed_before:
                child.run(folder, stage, Fault(in_swap=True))
            ended = child.run(folder, stage, Fault(in_swap=True, signal=signal.SIGINT))
            intact = ended.refused and lab.intact(folder, stage, may_be_absent=False)
            tally.check(intact, f"the folder is gone; {ended.last_line}")
            done = child.run(folder, stage)
            tally.require(lab.right(folder, stage, done), f"the next run: {done.last_line}")
    return tally
