"""Which faults are tried, and how often: the whole suite, or a short form of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pipeline.params.schema import EncoderParams
from tests.faults import damage, full_disk, fuzz, hostile, kills, together
from tests.faults.lab import STAGES, Lab, Tally, make_lab
from tests.tiny_models import save_clip, save_llama

KILLED = ("encode", "train", "evaluate")
# They are killed less often: what they keep is kept by the same code.
ALSO_KILLED = ("tokenize", "regions", "report")
WITH_SCRATCH = ("encode", "train", "evaluate", "regions")
SHOW_IMAGES = ("encode", "regions")

Case = Callable[[], Tally]


@dataclass(frozen=True)
class Effort:
    """How often each kind of fault is tried.

    Attributes:
        kills: of all kills of the three long stages together.
        times: everything that is tried by chance.
        examples: changed files for each reader.
        seed: of all chance.
    """

    kills: int
    times: int
    examples: int
    seed: int = 0


@dataclass(frozen=True)
class Labs:
    """A project and its models, and one of another run: another encoder layer, language model and seed."""

    lab: Lab
    other: Lab
    models: tuple[Path, Path]


def make_labs(folder: Path) -> Labs:
    """Run two tiny projects once."""
    models = save_clip(folder / "clip"), save_llama(folder / "llama")
    other_models = models[0], save_llama(folder / "other-llama", seed=1)
    lab = make_lab(folder / "lab", models)
    encoder = EncoderParams(str(models[0]), None, layer=-1, tokens="patches", grid=None)
    train = replace(lab.params.train, seed=1)
    other = make_lab(folder / "other", other_models, {"encoder": encoder, "train": train})
    return Labs(lab, other, models)


def cases(labs: Labs, effort: Effort) -> Iterator[tuple[str, Case]]:
    """Yield the group of each kind of fault and how it is tried."""
    lab, times, seed = labs.lab, effort.times, effort.seed
    each = max(1, effort.kills // (len(KILLED) + 1))
    for stage in KILLED:
        yield "kills", partial(kills.kill, lab, stage, each, seed)
    for change in (kills.more_epochs, kills.changed_parameter):
        yield "kills", partial(change, lab, labs.models, max(1, each // 2), seed)
    for stage in ALSO_KILLED:
        yield "kills", partial(kills.kill, lab, stage, times, seed)
    for stage in WITH_SCRATCH:
        yield "two at once", partial(together.two_runs, lab, stage, times, seed)
    for stage in SHOW_IMAGES:
        yield "two at once", partial(together.replaced_image, lab, stage, times, seed)
    for stage in STAGES:
        yield "no room", partial(full_disk.limited_files, lab, stage, times, seed)
    if full_disk.why_no_small_disk(lab.folder) is None:
        for stage in STAGES:
            yield "no room", partial(full_disk.small_disk, lab, stage, times, seed)
    for target in damage.TARGETS:
        for harm in damage.HARMS:
            yield "damaged files", partial(damage.damaged, lab, target, harm, times, seed)
    for kind in damage.EXCHANGES:
        yield "exchanged files", partial(damage.exchanged, lab, labs.other, kind)
    for kind in hostile.KINDS:
        yield "hostile datasets", partial(hostile.hostile, lab, kind)
    yield "hostile datasets", partial(hostile.markup_in_the_report, lab, times, seed)
    for name in fuzz.READERS:
        yield "readers", partial(fuzz.fuzzed, lab, name, effort.examples, seed)
