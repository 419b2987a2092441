"""SIGKILL at random moments: the next run ends with the bytes of an undisturbed one."""

import random
import shutil
from dataclasses import replace
from pathlib import Path

from pipeline.params.schema import Params
from tests.faults import child
from tests.faults.child import Ended, Fault
from tests.faults.lab import Lab, Tally, make_lab
from tests.faults.work import lost_by_a_kill
from tests.params_files import write_params

# So many kills in a row at most, before a run is let through.
_IN_A_ROW = 3


def kill(lab: Lab, stage: str, kills: int, seed: int) -> Tally:
    """Kill a stage `kills` times, by the clock or just before one of its changes of files.

    A loss is also what the runs after kills do again beyond what a kill may cost.
    """
    tally = Tally(f"{stage}: killed")
    rng = random.Random(f"{stage} {seed}")
    with lab.project(stage) as folder:
        whole = child.run(folder, stage)
        tally.check(not lab.wrong(folder, stage), f"undisturbed: {lab.wrong(folder, stage)}")
    tally.tried = 0
    while tally.tried < kills and len(tally.lost) < kills:
        with lab.project(stage) as folder:
            killed: list[Ended] = []
            for _ in range(min(rng.randint(1, _IN_A_ROW), kills - tally.tried)):
                ended, moment = _kill_once(folder, stage, whole, rng)
                if not ended.killed:
                    break
                killed.append(ended)
                tally.check(lab.intact(folder, stage), f"{moment}: an output was neither old nor new")
            done = _let_through(lab, folder, stage, tally)
            again = done.work + sum(one.work for one in killed) - whole.work
            if again > len(killed) * lost_by_a_kill(stage, lab.params):
                tally.lost.append(f"after {len(killed)} kills {again} of {whole.work} were done again")
    return tally


def more_epochs(lab: Lab, models: tuple[Path, Path], kills: int, seed: int) -> Tally:
    """Training killed, then asked for more epochs: the bytes of a run of so many from the start."""
    return _then_changed(lab, models, "train: killed, then more epochs", {"epochs": 3}, kills, seed)


def changed_parameter(lab: Lab, models: tuple[Path, Path], kills: int, seed: int) -> Tally:
    """Training killed, then another learning rate: the bytes of a run that never knew the old one."""
    kind = "train: killed, then another parameter"
    return _then_changed(lab, models, kind, {"learning_rate": 1e-3}, kills, seed)


def _then_changed(
    lab: Lab, models: tuple[Path, Path], kind: str, changes: dict[str, object], kills: int, seed: int
) -> Tally:
    tally = Tally(kind)
    rng = random.Random(f"{kind} {seed}")
    changed: Params = replace(lab.params, train=replace(lab.params.train, **changes))  # type: ignore[arg-type]
    other = make_lab(lab.folder / kind.rpartition(" ")[2], models, {"train": changed.train})
    with lab.project("train") as folder:
        whole = child.run(folder, "train")
    while tally.tried < kills and len(tally.lost) < kills:
        with lab.project("train") as folder:
            ended, moment = _kill_once(folder, "train", whole, rng)
            if not ended.killed:
                tally.pass_over(f"{moment}: {ended.last_line}")
                continue
            write_params(folder / "params.yaml", changed)
            done = child.run(folder, "train")
            wrong = other.wrong(folder, "train")
            tally.check(done.code == 0 and not wrong, f"{moment}: {wrong or done.last_line}")
    shutil.rmtree(other.folder)
    return tally


def _kill_once(folder: Path, stage: str, whole: Ended, rng: random.Random) -> tuple[Ended, str]:
    if rng.random() < 0.5:
        at = rng.randint(1, whole.changes)
        return child.start(folder, stage, Fault(at_change=at)).end(), f"before change {at} of {whole.changes}"
    seconds = rng.uniform(0, whole.seconds)
    return child.start(folder, stage).kill_after(seconds), f"after {seconds:.3f} s"


def _let_through(lab: Lab, folder: Path, stage: str, tally: Tally) -> Ended:
    done = child.run(folder, stage)
    wrong = lab.wrong(folder, stage)
    if done.code or wrong:
        tally.lost.append(f"the run after the kills: {wrong or done.last_line}")
    return done
