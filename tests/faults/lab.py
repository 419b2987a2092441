"""A tiny project on disk: its state before each stage, and the outputs of a run that nothing disturbed."""

import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

from ruamel.yaml import YAML

from pipeline.params.loader import load_params
from pipeline.params.schema import EncoderParams, Params, ScenesParams
from tests.faults import child
from tests.import_closure import ROOT
from tests.params_files import write_params

STAGES = ("prepare", "encode", "tokenize", "train", "evaluate", "regions", "report")
# A measurement, which differs from run to run.
_MEASURED = "metrics/cost.json"
_OLD = b"old\n"


@dataclass
class Tally:
    """How often a kind of fault was tried, and what was lost."""

    kind: str
    tried: int = 0
    lost: list[str] = field(default_factory=list)
    passed_over: int = 0

    def pass_over(self, why: str) -> None:
        """Count an attempt at which the fault did not come about; of too many AssertionError tells why."""
        self.passed_over += 1
        assert self.passed_over <= 20 + 10 * self.tried, f"{self.kind} does not come about: {why}"

    def check(self, good: bool, what: str) -> None:
        """Count an attempt; where it is not good, `what` says what happened."""
        self.tried += 1
        if not good:
            self.lost.append(what)


def tiny_params(clip: Path, llama: Path) -> Params:
    """Two dozen small scenes, tiny models, everything in small pieces so that a kill meets many states."""
    sample = load_params(ROOT / "profiles" / "sample.yaml")
    return replace(
        sample,
        data=replace(sample.data, scenes=ScenesParams(12, 4, 7, image_size=64, seed=0)),
        encoder=EncoderParams(str(clip), None, layer=-2, tokens="patches", grid=None),
        language_model=replace(sample.language_model, name=str(llama)),
        projector=replace(sample.projector, hidden_size=16),
        train=replace(sample.train, epochs=2, batch_size=4, warmup_steps=2),
        generate=replace(sample.generate, max_new_tokens=6),
        regions=replace(sample.regions, images=7),
        report=replace(sample.report, examples=2, region_images=1),
        runtime=replace(
            sample.runtime,
            device="cpu",
            num_workers=1,
            encode_batch_size=2,
            generate_batch_size=2,
            save_every_seconds=1e-9,
        ),
    )


@dataclass(frozen=True)
class Lab:
    """A project that was run once, stage by stage.

    Attributes:
        folder: everything of the lab.
        params: of the project.
    """

    folder: Path
    params: Params
    _numbers: Iterator[int] = field(default_factory=count)

    @contextmanager
    def project(self, before: str | None = None) -> Iterator[Path]:
        """A copy of the project as it was before a stage, that stage's outputs old; None: after all."""
        folder = self.folder / f"attempt_{next(self._numbers)}"
        shutil.copytree(self.state(before), folder, symlinks=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def state(self, before: str | None) -> Path:
        """The kept project as it was before a stage; None: after all of them."""
        return self.folder / (f"before_{before}" if before else "done")

    def made(self, folder: Path, stage: str) -> dict[str, bytes | None]:
        """The outputs of a stage: file -> content; None for an output that is not there."""
        found: dict[str, bytes | None] = {}
        for name in outputs_of(stage):
            path = folder / name
            if path.is_dir():
                found |= {p.relative_to(folder).as_posix(): p.read_bytes() for p in path.rglob("*")}
            else:
                found[name] = path.read_bytes() if path.is_file() else None
        return found

    def expected(self, stage: str) -> dict[str, bytes | None]:
        """The outputs of a stage as the undisturbed run left them."""
        return self.made(self.state(None), stage)

    def intact(self, folder: Path, stage: str) -> bool:
        """Whether each output is the old one or the new.

        A folder may be absent: two renames replace it. A file never is, one rename replaces it.
        """
        old, new = self.made(self.state(stage), stage), self.expected(stage)
        for name in outputs_of(stage):
            found, allowed = _below(self.made(folder, stage), name), [_below(old, name), _below(new, name)]
            if (self.state(None) / name).is_dir():
                allowed.append({name: None})
            if found not in allowed:
                return False
        return True

    def wrong(self, folder: Path, stage: str) -> str:
        """What differs from the undisturbed run's outputs, or was left behind; empty where nothing is."""
        found, expected = self.made(folder, stage), self.expected(stage)
        differing = sorted(n for n in found.keys() | expected.keys() if found.get(n) != expected.get(n))
        left = sorted(p.name for p in folder.rglob(".*") if p.name not in (".scratch",))
        return "".join(
            f"{what}: {', '.join(names[:3])}; "
            for what, names in (("differs", differing), ("left behind", left))
            if names
        )


def make_lab(folder: Path, models: tuple[Path, Path], changes: dict[str, object] | None = None) -> Lab:
    """Run a tiny project once, keeping its state before each stage.

    `changes`: sections of the parameters that are others than `tiny_params`.
    """
    params = replace(tiny_params(*models), **(changes or {}))  # type: ignore[arg-type]
    lab = Lab(folder, params)
    project = folder / "project"
    for name in ("data", "pipeline", ".scratch"):
        (project / name).mkdir(parents=True)
    # What `data.root` names for generated scenes.
    shutil.copy(ROOT / params.data.root, project / params.data.root)
    write_params(project / "params.yaml", params)
    for stage in STAGES:
        _write_old_outputs(project, stage)
        shutil.copytree(project, lab.state(stage))
        done = child.run(project, stage)
        if done.code:
            raise RuntimeError(f"the undisturbed run fails in {stage}: {done.printed}")
    project.rename(lab.state(None))
    return lab


def outputs_of(stage: str) -> list[str]:
    """The outputs of a stage that are the same bytes however often it runs, by dvc.yaml."""
    flow = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    names = (next(iter(out)) if isinstance(out, dict) else out for out in flow["stages"][stage]["outs"])
    return [name for name in names if name != _MEASURED]


def flipped(content: bytes, rng: random.Random) -> bytes:
    """`content` with one bit changed."""
    spoilt = bytearray(content)
    spoilt[rng.randrange(len(spoilt))] ^= 1 << rng.randrange(8)
    return bytes(spoilt)


def _write_old_outputs(project: Path, stage: str) -> None:
    for name in outputs_of(stage):
        path = project / name
        # The images are a folder that prepare fills; the others with a suffix are files.
        if path.suffix:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_OLD)
        elif stage != "prepare":
            path.mkdir(parents=True, exist_ok=True)
            (path / "old.txt").write_bytes(_OLD)


def _below(files: dict[str, bytes | None], name: str) -> dict[str, bytes | None]:
    return {file: of for file, of in files.items() if file == name or file.startswith(f"{name}/")}
