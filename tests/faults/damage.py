"""Damaged and exchanged files: each is refused in a sentence, or healed to the right result."""

import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import h5py

from pipeline.captions import read_images
from pipeline.params.loader import load_params
from tests.faults import child
from tests.faults.lab import Lab, Tally, flipped
from tests.params_files import write_params

HARMS = ("empty", "cut off", "one bit flipped", "overwritten in part", "gone")


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


def damaged(lab: Lab, target: Target, harm: str, times: int, seed: int) -> Tally:
    """Harm a file of a finished project and run the stage that reads it."""
    tally = Tally(f"{target.name}: {harm}")
    rng = random.Random(f"{tally.kind} {seed}")
    for _ in range(times):
        with lab.project() as folder:
            path = rng.choice(sorted(folder.glob(target.pattern)))
            _do_harm(path, harm, rng)
            _forget_kept(folder, target)
            ended = child.run(folder, target.stage)
            if ended.refused and target.heals:
                ended = child.run(folder, target.stage)
            right = ended.code == 0 and (not target.checked or not lab.wrong(folder, target.stage))
            refused = ended.refused and not target.heals
            tally.check(right or refused, f"exit {ended.code}: {ended.last_line}")
    return tally


def _do_harm(path: Path, harm: str, rng: random.Random) -> None:
    content = path.read_bytes()
    if harm == "gone":
        path.unlink()
    elif harm == "empty":
        path.write_bytes(b"")
    elif harm == "cut off":
        path.write_bytes(content[: rng.randrange(1, len(content))])
    elif harm == "one bit flipped":
        path.write_bytes(flipped(content, rng))
    else:
        start = rng.randrange(len(content))
        length = min(rng.randint(1, 64), len(content) - start)
        path.write_bytes(content[:start] + rng.randbytes(length) + content[start + length :])


def _forget_kept(folder: Path, target: Target) -> None:
    """With everything kept a stage would not read its inputs again."""
    if not target.heals:
        shutil.rmtree(folder / ".scratch" / target.stage, ignore_errors=True)


Exchange = Callable[[Path, Path], None]


def _first(folder: Path, pattern: str) -> Path:
    return sorted(folder.glob(pattern))[0]


def _take(pattern: str) -> Exchange:
    def take(folder: Path, other: Path) -> None:
        shutil.copyfile(_first(other, pattern), _first(folder, pattern))

    return take


def _swap(one: str, two: str) -> Exchange:
    def swap(folder: Path, _: Path) -> None:
        first, second = _first(folder, one), _first(folder, two)
        content = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(content)

    return swap


def _rows_zeroed(folder: Path, _: Path) -> None:
    """As a disk that lost a write: zeros, and HDF5's checksum of zeros is zero."""
    path = folder / "data/features.h5"
    content = bytearray(path.read_bytes())
    with h5py.File(path, "r") as file:
        rows = file["features"]
        chunks = [rows.id.get_chunk_info(row) for row in range(len(rows))]
    for chunk in chunks:
        content[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    path.write_bytes(content)
    shutil.rmtree(folder / ".scratch")


def _two_rows_exchanged(folder: Path, _: Path) -> None:
    """Two of the test images, which evaluate reads, and two of the training images, which train reads."""
    with h5py.File(folder / "data/features.h5", "r+") as file:
        rows = file["features"]
        ids = [name.decode() for name in file["image_id"][:]]
        for split in ("test", "train"):
            one, two = [row for row, name in enumerate(ids) if name.startswith(split)][:2]
            rows[one], rows[two] = rows[two], rows[one]
    shutil.rmtree(folder / ".scratch")


def _digest_flipped(folder: Path, _: Path) -> None:
    """A bit of the digest under which a kept block lists its first image; the other blocks are gone."""
    first = read_images(folder / "data/images.jsonl")[0].sha256.encode()
    for path in folder.glob(".scratch/encode/*/*.safetensors"):
        content = path.read_bytes()
        if first in content:
            path.write_bytes(content.replace(first, first[:-1] + bytes([first[-1] ^ 1])))
        else:
            path.unlink()


def _of_other_images(folder: Path, _: Path) -> None:
    """A whole store of the same encoder whose images have the same ids: of scenes drawn by another seed."""
    params = load_params(folder / "params.yaml")
    scenes = replace(params.data.scenes, seed=1)
    with tempfile.TemporaryDirectory() as name:
        other = Path(name) / "project"
        shutil.copytree(folder, other)
        write_params(other / "params.yaml", replace(params, data=replace(params.data, scenes=scenes)))
        for stage in ("prepare", "encode"):
            child.run(other, stage)
        shutil.copyfile(other / "data/features.h5", folder / "data/features.h5")


_WRONG_ROWS = "its digest is wrong"

# What is exchanged, the stage that reads it, whether that heals it, a word of the refusal.
EXCHANGES: dict[str, tuple[Exchange, str, bool, str]] = {
    "features.h5: rows zeroed with their checksums": (_rows_zeroed, "train", False, _WRONG_ROWS),
    "features.h5: rows zeroed with their checksums (evaluate)": (
        _rows_zeroed,
        "evaluate",
        False,
        _WRONG_ROWS,
    ),
    "features.h5: two rows exchanged": (_two_rows_exchanged, "train", False, _WRONG_ROWS),
    "features.h5: two rows exchanged (evaluate)": (_two_rows_exchanged, "evaluate", False, _WRONG_ROWS),
    "kept features: digest flipped": (_digest_flipped, "encode", True, ""),
    "features.h5 of another encoder": (_take("data/features.h5"), "evaluate", False, "encoder layer"),
    "features.h5 of other images of the same names": (
        _of_other_images,
        "evaluate",
        False,
        "are not those that",
    ),
    "tokens.h5 of another language model": (_take("data/tokens.h5"), "train", False, "tokenizer"),
    "a checkpoint of another run": (
        _take("data/checkpoints/epoch_002.safetensors"),
        "evaluate",
        False,
        "comes from another training run",
    ),
    "checkpoints of two epochs exchanged": (
        _swap("data/checkpoints/epoch_001.safetensors", "data/checkpoints/epoch_002.safetensors"),
        "evaluate",
        False,
        "holds epoch",
    ),
    "kept features of another encoder": (_take(".scratch/encode/*/*.safetensors"), "encode", True, ""),
    "kept training state of another run": (_take(".scratch/train/*/state.safetensors"), "train", True, ""),
    "kept checkpoint of another run": (_take(".scratch/train/*/epoch_001.safetensors"), "train", True, ""),
    "kept checkpoints of two epochs exchanged": (
        _swap(".scratch/train/*/epoch_001.safetensors", ".scratch/train/*/epoch_002.safetensors"),
        "train",
        True,
        "",
    ),
    "kept predictions of another run": (_take(".scratch/evaluate/*/00000000.json"), "evaluate", True, ""),
    "kept predictions of two batches exchanged": (
        _swap(".scratch/evaluate/*/00000000.json", ".scratch/evaluate/*/00000002.json"),
        "evaluate",
        True,
        "",
    ),
    "kept region answers of another run": (_take(".scratch/regions/*/00000000.json"), "regions", True, ""),
}


def exchanged(lab: Lab, other: Lab, kind: str) -> Tally:
    """Put a file of another run, or another place, in the place of one, and run the stage that reads it."""
    exchange, stage, heals, word = EXCHANGES[kind]
    tally = Tally(kind)
    with lab.project() as folder:
        exchange(folder, other.state(None))
        ended = child.run(folder, stage)
        if heals and ended.refused:
            ended = child.run(folder, stage)
        right = ended.code == 0 and not lab.wrong(folder, stage)
        refused = ended.refused and word in ended.printed
        tally.check(right if heals else refused, f"exit {ended.code}: {ended.last_line}")
    return tally
