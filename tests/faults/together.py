"""Others act while a stage runs: a second run of it in the same folder, another machine."""

import os
import random
import signal
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.faults import child
from tests.faults.child import Ended, Fault
from tests.faults.lab import Lab, Tally


def two_runs(lab: Lab, stage: str, times: int) -> Tally:
    """The second run is told who holds the work; the first ends as if alone; a killed one holds nothing."""
    tally = Tally(f"{stage}: two runs at once")
    rng = random.Random(tally.kind)
    with lab.project(stage) as folder:
        changes = child.run(folder, stage).changes
    for _ in range(times):
        with lab.project(stage) as folder:
            # After the first changes, which are those of the lock itself.
            at = rng.randint(changes // 3, changes * 3 // 4)
            first = child.start(folder, stage, Fault(at_change=at, signal=signal.SIGSTOP))
            assert first.wait_until_stopped(), first.end().last_line
            second = child.run(folder, stage)
            named = f"process {first.process.pid} on {socket.gethostname()} since " in second.printed
            tally.check(second.refused and named, f"the second: {second.last_line}")
            if rng.random() < 0.5:
                os.kill(first.process.pid or 0, signal.SIGCONT)
                done = first.end()
            else:
                first.end(0)
                done = child.run(folder, stage)
            tally.require(lab.right(folder, stage, done), f"the first: {done.last_line}")
    return tally


def two_machines(lab: Lab, times: int) -> Tally:
    """Two machines train together, are killed, and go on: the bytes of two that nothing disturbed.

    Each has a scratch folder that the other does not see; the first one's state is both's.
    """
    tally = Tally("train: two machines, killed")
    rng = random.Random(tally.kind)
    with ExitStack() as stack:
        undisturbed = [stack.enter_context(lab.project("train")) for _ in range(2)]
        first, _ = _train_on(undisturbed)
        expected = lab.outputs(undisturbed[0], "train")
        assert first.code == 0, first.printed
    for _ in range(times):
        with lab.project("train") as main, lab.project("train") as other:
            # In the second half there is a state.
            at = rng.randint(first.changes // 2, first.changes - 1)
            _train_on([main, other], at)
            done, second = _train_on([main, other])
            good = (done.code, second.code) == (0, 0) and lab.outputs(main, "train") == expected
            tally.check(good, f"killed before change {at}: {done.last_line}; {second.last_line}")
    return tally


def _train_on(folders: Sequence[Path], kill_at: int | None = None) -> list[Ended]:
    """Train with a process in each folder; the first is killed before a change, and with it the others."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    running = []
    for rank, folder in enumerate(folders):
        place = {"RANK": str(rank), "LOCAL_RANK": "0", "WORLD_SIZE": str(len(folders)), **address}
        fault = Fault(at_change=None if rank else kill_at)
        running.append(child.start_call(folder, _train_as, (place,), fault))
    first = running[0].end()
    return [first, *(attempt.end(child.LONGEST if first.code == 0 else 0) for attempt in running[1:])]


def _train_as(place: dict[str, str]) -> None:
    os.environ.update(place)
    child.run_stage("train")
