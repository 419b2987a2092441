"""A tiny project on disk: its state before each stage, and the outputs of a run that nothing disturbed."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from ruamel.yaml import YAML

from pipeline.params.schema import Params
from tests.conftest import make_tiny_params
from tests.faults import child
from tests.import_closure import ROOT
from tests.params_files import with_changes, write_params

STAGES = ("prepare", "encode", "retrieve", "tokenize", "train", "evaluate", "regions", "report")
# A measurement, which differs from run to run.
_MEASURED = "metrics/cost.json"
# It is there, and grows, while a training runs.
_CURVE = "plots/training.csv"
_OLD = b"old\n"
# File -> content; None for an output that is not there.
Outputs = dict[str, bytes | None]


@dataclass
class Tally:
    """How often a kind of fault was tried, and what was lost in which attempt."""

    kind: str
    tried: int = 0
    lost: dict[int, str] = field(default_factory=dict)

    def check(self, good: bool, what: str) -> None:
        """Count an attempt; where it is not good, `what` says what happened."""
        self.tried += 1
        self.require(good, what)

    def require(self, good: bool, what: str) -> None:
        """Note a loss unless `good`, as part of the last attempt."""
        if not good:
            self.lost.setdefault(self.tried, what)


def tiny_params(clip: Path, llama: Path) -> Params:
    """A tiny run with all that a run can have, in small pieces so that a kill meets many states."""
    runtime = {"encode_batch_size": 2, "generate_batch_size": 2, "save_every_seconds": 1e-9}
    tiny, prompt = make_tiny_params(clip, llama), {"similar_captions": 2}
    return with_changes(tiny, prompt=prompt, regions={"images": 6}, runtime=runtime)


@dataclass(frozen=True)
class Lab:
    """A project that was run once, stage by stage.

    Attributes:
        folder: everything of the lab.
        params: of the project.
    """

    folder: Path
    params: Params

    @contextmanager
    def project(self, before: str | None = None) -> Iterator[Path]:
        """A copy of the project as it was before a stage, that stage's outputs old; None: after all."""
        with TemporaryDirectory(dir=self.folder, prefix="attempt_", ignore_cleanup_errors=True) as folder:
            yield Path(shutil.copytree(self.state(before), folder, symlinks=True, dirs_exist_ok=True))

    def state(self, before: str | None) -> Path:
        """The kept project as it was before a stage; None: after all of them."""
        return self.folder / (f"before_{before}" if before else "done")

    def outputs(self, folder: Path, stage: str) -> Outputs:
        """The outputs of a stage in a project."""
        return {file: bytes_ for name in outputs_of(stage) for file, bytes_ in _output(folder, name).items()}

    def intact(self, folder: Path, stage: str, may_be_absent: bool = True) -> bool:
        """Whether each output is the old one or the new.

        A folder may be absent after a kill: two renames replace it. A file never is, one rename replaces it.
        The curve of a training grows meanwhile: it may be the beginning of the new one.
        """
        for name in outputs_of(stage):
            actual = _output(folder, name)
            curve = actual.get(_CURVE)
            if curve and (self.state(None) / name).read_bytes().startswith(curve):
                continue
            allowed = [_output(self.state(before), name) for before in (stage, None)]
            if may_be_absent and (self.state(None) / name).is_dir():
                allowed.append({name: None})
            if actual not in allowed:
                return False
        return True

    def right(self, folder: Path, stage: str, ended: child.Ended) -> bool:
        """Whether a stage ended with the outputs of the undisturbed run, and left nothing else behind."""
        hidden = [path for path in folder.rglob(".*") if path.name != ".scratch"]
        expected = self.outputs(self.state(None), stage)
        return ended.code == 0 and not hidden and self.outputs(folder, stage) == expected


def make_lab(folder: Path, params: Params) -> Lab:
    """Run a tiny project once, keeping its state before each stage."""
    lab = Lab(folder, params)
    project = folder / "project"
    for name in ("data", ".scratch"):
        (project / name).mkdir(parents=True)
    # What `data.root` names for generated scenes.
    (project / params.data.root).mkdir(parents=True)
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


def _output(folder: Path, name: str) -> Outputs:
    path = folder / name
    if path.is_dir():
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in path.rglob("*")}
    return {name: path.read_bytes() if path.is_file() else None}


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
