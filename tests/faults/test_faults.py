"""The fault suite in short: `make faults` runs it in full.

Run: make test-slow
"""

import shutil

import pytest

from tests.faults.lab import Lab
from tests.faults.suite import GROUPS, Effort, cases, make_labs

pytestmark = pytest.mark.slow
SHORT = Effort(kills=12, times=1, examples=25, harms=("one bit flipped",))


@pytest.fixture(scope="module")
def labs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lab, Lab]:
    return make_labs(tmp_path_factory.mktemp("faults"))


@pytest.mark.parametrize("group", GROUPS)
def test_nothing_is_lost(labs: tuple[Lab, Lab], group: str) -> None:
    tallies = [case() for name, case in cases(labs, SHORT) if name == group]
    assert sum(tally.tried for tally in tallies) >= len(tallies) > 0
    assert {tally.kind: tally.lost for tally in tallies if tally.lost} == {}


def test_the_suite_sees_outputs_that_are_neither_old_nor_new(labs: tuple[Lab, Lab]) -> None:
    """A folder may be absent between two renames, but no file may be, nor one inside a folder."""
    lab = labs[0]
    with lab.project("evaluate") as folder:
        best, predictions = folder / "data/best.safetensors", folder / "data/predictions"
        shutil.rmtree(predictions)
        assert lab.intact(folder, "evaluate")
        assert not lab.intact(folder, "evaluate", may_be_absent=False)
        shutil.copytree(lab.state(None) / "data/predictions", predictions)
        assert lab.intact(folder, "evaluate")
        next(predictions.iterdir()).unlink()
        assert not lab.intact(folder, "evaluate")
        shutil.rmtree(predictions)
        best.unlink()
        assert not lab.intact(folder, "evaluate")
