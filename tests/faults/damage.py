"""Damaged, unreadable and exchanged files: each is refused in a sentence, or healed to the right result."""

import json
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.faults import child
from tests.faults.lab import Lab, Tally
from tests.refusals import flipped

Change = Callable[[bytes, random.Random], bytes]
Exchange = Callable[[Path, Path], object]
# Opening it succeeds; reading it, by Python, HDF5 or safetensors, gives an error of the system.
_UNREADABLE = "/proc/self/mem"
# What may stand for a value of a text: of other types, huge, not finite, half a character.
_VALUES: list[object] = [None, True, -1, 10**400, float("inf"), "", "x" * 5000, "\ud800", [], {}, {"a": [1]}]


def _overwrite(content: bytes, rng: random.Random) -> bytes:
    start, length = rng.randrange(len(content)), rng.randint(1, 64)
    return (content[:start] + rng.randbytes(length) + content[start + length :])[: len(content)]


def _shift(content: bytes, rng: random.Random) -> bytes:
    """Insert some bytes, and take some away behind them."""
    start = rng.randrange(len(content))
    return content[:start] + rng.randbytes(rng.randint(0, 40)) + content[start + rng.randint(0, 200) :]


def _value(content: bytes, rng: random.Random) -> bytes:
    """Put another value in the place of a word, a number or a text, as a JSON or YAML line has them."""
    values = list(re.finditer(rb'"[^"\n]*"|[\w.+-]+', content))
    old = rng.choice(values) if values else None
    new = json.dumps(rng.choice(_VALUES)).encode()
    return content[: old.start()] + new + content[old.end() :] if old else new


# What happens to the content of a file; "gone" is the file itself.
HARMS: dict[str, Change] = {
    "empty": lambda _content, _rng: b"",
    "cut off": lambda content, rng: content[: rng.randrange(1, len(content))],
    "one bit flipped": lambda content, rng: flipped(content, rng.randrange(len(content)), rng.randrange(8)),
    "overwritten in part": _overwrite,
    "gone": lambda _content, _rng: b"",
}
CHANGES = (*HARMS.values(), _shift, _value)


@dataclass(frozen=True)
class Target:
    """A kind of file, and the stage that reads it.

    Attributes:
        name: as the table calls it.
        pattern: finds it in a finished project.
        stage: which is run on it, from the finished project.
        heals: whether a second run must end with the right result, nobody having mended anything.
        checked: whether the content is under a checksum; of a text that people may edit it is not.
    """

    name: str
    pattern: str
    stage: str
    heals: bool = False
    checked: bool = True


TARGETS = (
    Target("features.h5", "data/features.h5", "train"),
    Target("features.h5 (evaluate)", "data/features.h5", "evaluate"),
    Target("tokens.h5", "data/tokens.h5", "train"),
    Target("memory.h5", "data/memory.h5", "regions"),
    Target("neighbors.h5", "data/neighbors.h5", "train"),
    Target("neighbors.h5 (evaluate)", "data/neighbors.h5", "evaluate"),
    Target("a checkpoint", "data/checkpoints/epoch_001.safetensors", "evaluate"),
    Target("best.safetensors", "data/best.safetensors", "regions"),
    Target("kept features", ".scratch/encode/*/*.safetensors", "encode", heals=True),
    Target("kept training state", ".scratch/train/*/state.safetensors", "train", heals=True),
    Target("kept checkpoint", ".scratch/train/*/epoch_*.safetensors", "train", heals=True),
    Target("kept predictions", ".scratch/evaluate/*/*.json", "evaluate", heals=True),
    Target("kept region answers", ".scratch/regions/*/*.json", "regions", heals=True),
    Target("images.jsonl", "data/images.jsonl", "encode", checked=False),
    Target("captions.jsonl", "data/captions.jsonl", "tokenize", checked=False),
    Target("captions.jsonl (evaluate)", "data/captions.jsonl", "evaluate", checked=False),
    Target("params.yaml", "params.yaml", "prepare", checked=False),
    Target("predictions", "data/predictions/epoch_*_test.jsonl", "report", checked=False),
    Target("regions.jsonl", "data/regions/regions.jsonl", "report", checked=False),
    Target("evaluate.json", "metrics/evaluate.json", "report", checked=False),
    Target("training.csv", "plots/training.csv", "report", checked=False),
)


def damaged(lab: Lab, target: Target, harm: str, times: int) -> Tally:
    """Harm a file of a finished project and run the stage that reads it."""
    tally = Tally(f"{target.name}: {harm}")
    rng = random.Random(tally.kind)
    for _ in range(times):
        with lab.project() as folder:
            path = rng.choice(sorted(folder.glob(target.pattern)))
            path.write_bytes(HARMS[harm](path.read_bytes(), rng))
            if harm == "gone":
                path.unlink()
            _forget_kept(folder, target)
            ended = child.run(folder, target.stage)
            if target.heals and ended.refused:
                ended = child.run(folder, target.stage)
            right = lab.right(folder, target.stage, ended) if target.checked else ended.code == 0
            tally.check(right or (ended.refused and not target.heals), ended.last_line)
    return tally


def unreadable(lab: Lab, target: Target) -> Tally:
    """A disk that does not answer is no damage: the file is left alone, and all is well once it is read."""
    tally = Tally(f"{target.name}: cannot be read")
    with lab.project() as folder:
        path = random.Random(tally.kind).choice(sorted(folder.glob(target.pattern)))
        content = path.read_bytes()
        path.unlink()
        path.symlink_to(_UNREADABLE)
        _forget_kept(folder, target)
        ended = child.run(folder, target.stage)
        told = ended.refused and "damaged" not in ended.printed
        # Or it was not needed.
        good = path.is_symlink() and (told or lab.right(folder, target.stage, ended))
        tally.check(good, f"{'left alone' if path.is_symlink() else 'removed'}; {ended.last_line}")
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        done = child.run(folder, target.stage)
        good = lab.right(folder, target.stage, done) and not (target.heals and done.work)
        tally.require(good, f"readable again: {done.work} done again; {done.last_line}")
    return tally


def _forget_kept(folder: Path, target: Target) -> None:
    """With everything kept a stage would not read its inputs again."""
    if not target.heals:
        shutil.rmtree(folder / ".scratch" / target.stage, ignore_errors=True)


def _first(folder: Path, pattern: str) -> Path:
    return sorted(folder.glob(pattern))[0]


def _take(pattern: str) -> Exchange:
    return lambda folder, other: shutil.copyfile(_first(other, pattern), _first(folder, pattern))


def _swap(pattern: str, name: str, other: str) -> Exchange:
    def swap(folder: Path, _: Path) -> None:
        first, second = _first(folder, pattern.format(name)), _first(folder, pattern.format(other))
        content = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(content)

    return swap


_CHECKPOINT = "data/checkpoints/epoch_{}.safetensors"
_KEPT_CHECKPOINT = ".scratch/train/*/epoch_{}.safetensors"
_KEPT_ANSWERS = ".scratch/evaluate/*/{}.json"

# What is exchanged, the stage that reads it, a word of the refusal; none where the stage heals it.
EXCHANGES: dict[str, tuple[Exchange, str, str]] = {
    "features.h5 of another encoder": (_take("data/features.h5"), "evaluate", "encoder layer"),
    "tokens.h5 of another language model": (_take("data/tokens.h5"), "train", "tokenizer"),
    "memory.h5 of another encoder": (_take("data/memory.h5"), "evaluate", "encoder layer"),
    "neighbors.h5 of another run": (_take("data/neighbors.h5"), "evaluate", "another memory"),
    "a checkpoint of another run": (_take(_CHECKPOINT.format("002")), "evaluate", "is not epoch 2"),
    "checkpoints of two epochs": (_swap(_CHECKPOINT, "001", "002"), "evaluate", "epoch is 2, expected 1"),
    "kept features of another encoder": (_take(".scratch/encode/*/*.safetensors"), "encode", ""),
    "kept training state of another run": (_take(".scratch/train/*/state.safetensors"), "train", ""),
    "kept checkpoint of another run": (_take(_KEPT_CHECKPOINT.format("001")), "train", ""),
    "kept checkpoints of two epochs": (_swap(_KEPT_CHECKPOINT, "001", "002"), "train", ""),
    "kept predictions of another run": (_take(_KEPT_ANSWERS.format("00000000")), "evaluate", ""),
    "kept predictions of two batches": (_swap(_KEPT_ANSWERS, "00000000", "00000002"), "evaluate", ""),
    "kept region answers of another run": (_take(".scratch/regions/*/00000000.json"), "regions", ""),
}


def exchanged(lab: Lab, other: Lab, kind: str) -> Tally:
    """Put a file of another run or another place into a project, and run the stage that reads it."""
    exchange, stage, word = EXCHANGES[kind]
    tally = Tally(f"exchanged: {kind}")
    with lab.project() as folder:
        exchange(folder, other.state(None))
        ended = child.run(folder, stage)
        if ended.refused and not word:
            ended = child.run(folder, stage)
        good = ended.refused and word in ended.printed if word else lab.right(folder, stage, ended)
        tally.check(good, ended.last_line)
    return tally
