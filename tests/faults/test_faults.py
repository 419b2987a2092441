"""The fault suite in short: `make faults` runs it in full.

Run: make test-slow
"""

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
