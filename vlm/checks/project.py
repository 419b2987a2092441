"""The project: its dataset, git, and which stages would run."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from ruamel.yaml import YAML

from pipeline.captions import SPLITS
from pipeline.datasets.hub_dataset import needed_shards
from pipeline.datasets.pins import read_pins
from pipeline.datasets.read import read_dataset
from pipeline.datasets.scenes.draw import scene_counts
from pipeline.errors import PipelineError
from pipeline.params.schema import DataParams, Params
from pipeline.pretrained.hub import HubRepository, ask_for_file
from stages.errors import running_dvc
from vlm.checks.machine import DiskNeeds
from vlm.doctor import CheckResult

_UNCHECKED = [{"changed deps": {"data/checked": "deleted"}}]


def check_dataset(params: Params) -> tuple[CheckResult, DiskNeeds]:
    """Check that the dataset is there and complete: its images and captions by split."""
    data = params.data
    if data.source == "hub":
        return _check_hub_dataset(data)
    if data.source == "scenes":
        counts = scene_counts(data.scenes, data.limits)
        splits = ", ".join(f"{split} {count}" for split, count in counts.items())
        text = f"scenes ({splits}), drawn by prepare"
        return CheckResult("ok", "dataset", text), DiskNeeds(sum(counts.values()))
    try:
        records = [record for record, _ in read_dataset(data)]
    except PipelineError as error:
        remedy = "correct the files, or `dvc exp run -S data.root=FOLDER` with the dataset's folder"
        return CheckResult("problem", "dataset", str(error), remedy), DiskNeeds()
    images = Counter(record.split for record in records)
    captions = Counter(record.split for record in records for _ in record.captions)
    splits = ", ".join(
        f"{split} {images[split]:,} images with {captions[split]:,} captions" for split in SPLITS
    )
    return CheckResult("ok", "dataset", f"{data.source} in {data.root}: {splits}"), DiskNeeds(len(records))


def _check_hub_dataset(params: DataParams) -> tuple[CheckResult, DiskNeeds]:
    """Check what the pins name, and ask the hub for the sizes of what prepare would still download."""
    text, needs = "", DiskNeeds()
    remedy = "correct the file, or `dvc exp run -S data.root=FOLDER -S data.pins=FILE` with other pins"
    try:
        pins = read_pins(Path(params.root, params.pins))
        repository = HubRepository(pins.repository, pins.revision, "dataset")
        shards = needed_shards(pins, params.limits)
        images = {split: sum(rows for shard, rows in shards if shard.split == split) for split in SPLITS}
        counts = ", ".join(f"{split} {count:,}" for split, count in images.items())
        text = f"{repository} at {pins.revision:.7} ({counts} images): "
        needs = DiskNeeds(sum(images.values()), downloads=[None])
        remedy = "do that, or set data.source and data.root in params.yaml to a local copy"
        files = [ask_for_file(repository, shard.file) for shard, _ in shards]
    except PipelineError as error:
        return CheckResult("problem", "dataset", f"{text}{error}", remedy), needs
    missing = [file.file_size or 0 for file in files if not file.is_cached]
    what = f"prepare downloads {len(missing)} files, {sum(missing) / 1e9:.2f} GB"
    # Parquet hardly compresses JPEG: the images take as much again.
    needs = DiskNeeds(sum(images.values()), sum(file.file_size or 0 for file in files), [sum(missing)])
    return CheckResult("ok", "dataset", f"{text}{what if missing else 'in the hub cache'}"), needs


def check_git(folder: Path) -> CheckResult:
    """Check that there is a git repository with a commit, which DVC compares with."""
    first = "run in the project's folder"
    if (folder / "dvc.yaml").is_file():
        first = '`git init && git add . && git commit -m "First run"`'
    try:
        head = _run(folder, "git", "rev-parse", "--verify", "--short", "HEAD")
    except OSError:
        return CheckResult("problem", "git", "git is not installed", "install git, which DVC needs")
    if head.returncode == 0:
        return CheckResult("ok", "git", f"at commit {head.stdout.strip()}")
    if "not a git repository" in head.stderr:
        return CheckResult("problem", "git", "this folder is in no git repository", first)
    return CheckResult("warning", "git", "no commit yet, which `dvc exp run` needs", first)


def check_stages(folder: Path) -> CheckResult:
    """Name the stages that the next `dvc repro` would run: those that changed, and those that follow."""
    if not (folder / "dvc.yaml").is_file():
        return CheckResult("problem", "stages", "there is no dvc.yaml here", "run in the project's folder")
    if running := running_dvc(folder):
        text = f"DVC is at work ({running}), so what is left to run is not known"
        remedy = "wait until it has ended; if that process is not DVC, remove .dvc/tmp/rwlock"
        return CheckResult("warning", "stages", text, remedy)
    status = _run(folder, sys.executable, "-m", "dvc", "status", "--json")
    if status.returncode != 0:
        lines = (status.stderr.strip() or status.stdout.strip() or "nothing").splitlines()
        # Without DVC's advice in the lines below, to remove the lock of a process that is at work.
        error = next((line for line in lines if line.startswith("ERROR: ")), lines[-1])
        text = f"`dvc status` fails: {error.removeprefix('ERROR: ')}"
        return CheckResult("warning", "stages", text, "`dvc status -v`")
    waiting = _stages_to_run(folder / "dvc.yaml", json.loads(status.stdout))
    text = f"`dvc repro` would run {', '.join(waiting)}" if waiting else "all up to date, nothing to run"
    return CheckResult("ok", "stages", text)


def _stages_to_run(flow: Path, status: Mapping[str, object]) -> list[str]:
    """List the stages that have changed, as `dvc status` says, and those that follow, in their order."""
    waiting: list[str] = []
    written: set[str] = set()
    for name, stage in YAML(typ="safe").load(flow)["stages"].items():
        # A refused run leaves `check` without its output, which is the same whenever there is one.
        changed = status.get(name, _UNCHECKED) != _UNCHECKED
        if changed or written.intersection(stage["deps"]):
            waiting.append(name)
            if name != "check":
                written |= {next(iter(out)) if isinstance(out, dict) else out for out in stage["outs"]}
    return waiting


def _run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1", "LC_ALL": "C.UTF-8"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
