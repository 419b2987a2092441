"""The fault suite in short: `make faults` runs it in full.

Run: make test-slow
"""

import shutil
from pathlib import Path
from random import Random

import pytest

from tests.faults import child, kills
from tests.faults.child import Ended, Fault
from tests.faults.lab import Lab
from tests.faults.suite import GROUPS, KILLED, Effort, cases, make_labs

pytestmark = pytest.mark.slow
SHORT = Effort(kills=12, times=1, examples=25, seed=7, harms=("one bit flipped",))


@pytest.fixture(scope="module")
def labs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lab, Lab]:
    return make_labs(tmp_path_factory.mktemp("faults"))


@pytest.mark.parametrize("group", GROUPS)
def test_nothing_is_lost(labs: tuple[Lab, Lab], group: str) -> None:
    tallies = [case() for name, case in cases(labs, SHORT) if name == group]
    assert sum(tally.tried for tally in tallies) >= len(tallies) > 0
    assert {tally.kind: tally.lost for tally in tallies if tally.lost} == {}


def kill_late(folder: Path, stage: str, whole: Ended, _: Random) -> tuple[Ended, str]:
    """Before a change of its outputs, which come at the end, when there is something to lose."""
    return child.run(folder, stage, Fault(at_change=whole.changes - 2)), "late"


def run_forgetfully(folder: Path, stage: str) -> Ended:
    """A stage that finds nothing of what it kept, in the place of one that continues."""
    shutil.rmtree(folder / ".scratch" / stage, ignore_errors=True)
    return child.run(folder, stage)


@pytest.mark.parametrize("stage", KILLED)
def test_the_suite_sees_work_that_is_done_again(labs: tuple[Lab, Lab], stage: str) -> None:
    (lost,) = kills.kill(labs[0], stage, 1, SHORT.seed, kill_late, run_forgetfully).lost.values()
    assert lost.endswith("were done again")


def test_the_suite_sees_outputs_that_are_neither_old_nor_new(labs: tuple[Lab, Lab]) -> None:
    """A folder may be absent between two renames, but no file may be, nor one inside a folder."""
    lab = labs[0]
    with lab.project("evaluate") as folder:
        best, predictions = folder / "data/best.safetensors", folder / "data/predictions"
        old = best.read_bytes()
        best.unlink()
        assert not lab.intact(folder, "evaluate")
        best.write_bytes(old)
        (predictions / "old.txt").write_text("neither old nor new")
        assert not lab.intact(folder, "evaluate")
        shutil.rmtree(predictions)
        assert lab.intact(folder, "evaluate")
        assert not lab.intact(folder, "evaluate", may_be_absent=False)
        shutil.copytree(lab.state(None) / "data/predictions", predictions)
        assert lab.intact(folder, "evaluate")
        next(predictions.iterdir()).unlink()
        assert not lab.intact(folder, "evaluate")
