"""Which faults are tried, and how often: the whole suite, or a short form of it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

from tests.faults import damage, full_disk, fuzz, kills, together
from tests.faults.lab import STAGES, Lab, Tally, make_lab, tiny_params
from tests.params_files import with_changes
from tests.tiny_models import save_clip, save_llama

KILLED = ("encode", "train", "evaluate")
# They are killed less often: what they keep is kept by the same code.
ALSO_KILLED = ("retrieve", "tokenize", "regions", "report")
WITH_SCRATCH = ("encode", "train", "evaluate", "regions")
WITH_FOLDER = ("train", "evaluate", "regions")
GROUPS = ("kills", "two at once", "no room", "damaged files", "exchanged files", "readers")

Case = Callable[[], Tally]


@dataclass(frozen=True)
class Effort:
    """How often each kind of fault is tried.

    Attributes:
        kills: of all kills of the three long stages together.
        times: everything that is tried by chance.
        examples: changed files for each reader.
        harms: how files are damaged.
    """

    kills: int
    times: int
    examples: int
    harms: Iterable[str] = tuple(damage.HARMS)


def make_labs(folder: Path) -> tuple[Lab, Lab]:
    """Run two tiny projects once; the other one has another encoder layer, language model and seed."""
    clip, llama = save_clip(folder / "clip"), save_llama(folder / "llama")
    lab = make_lab(folder / "lab", tiny_params(clip, llama))
    params = tiny_params(clip, save_llama(folder / "other-llama", seed=1))
    return lab, make_lab(folder / "other", with_changes(params, encoder={"layer": -1}, train={"seed": 1}))


def cases(labs: tuple[Lab, Lab], effort: Effort) -> Iterator[tuple[str, Case]]:
    """Yield the group of each kind of fault and how it is tried."""
    (lab, other), times = labs, effort.times
    each = max(1, effort.kills // (len(KILLED) + 1))
    for stage in (*KILLED, *ALSO_KILLED):
        yield "kills", partial(kills.kill, lab, stage, each if stage in KILLED else times)
    for change in ({"epochs": 3}, {"learning_rate": 1e-3}):
        yield "kills", partial(kills.kill_then_change, lab, change, max(1, each // 2))
    for stage in WITH_FOLDER:
        yield "kills", partial(kills.interrupt_swap, lab, stage)
    for stage in WITH_SCRATCH:
        yield "two at once", partial(together.two_runs, lab, stage, times)
    yield "two at once", partial(together.two_machines, lab, times)
    small_disks = (False,) if full_disk.why_no_small_disk(lab.folder) else (False, True)
    for stage, small_disk in product(STAGES, small_disks):
        yield "no room", partial(full_disk.leave_no_room, lab, stage, small_disk, times)
    for target in damage.TARGETS:
        for harm in effort.harms:
            yield "damaged files", partial(damage.damaged, lab, target, harm, times)
        yield "damaged files", partial(damage.unreadable, lab, target)
    for kind in damage.EXCHANGES:
        yield "exchanged files", partial(damage.exchanged, lab, other, kind)
    for name in fuzz.READERS:
        yield "readers", partial(fuzz.fuzzed, lab, name, effort.examples)
