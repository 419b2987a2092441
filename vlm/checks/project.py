"""The project: its dataset, git, and which stages would run."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML

from pipeline.captions import SPLITS
from pipeline.datasets.hub_dataset import needed_shards
from pipeline.datasets.pins import read_pins
from pipeline.datasets.read import read_dataset
from pipeline.errors import PipelineError
from pipeline.params.schema import DataParams, Params
from pipeline.pretrained.hub import HubRepository, ask_for_file
from stages.reruns import with_followers
from vlm.checks.finding import Finding

_DVC_TIMEOUT = 300.0  # seconds; it hashes what has changed


@dataclass(frozen=True)
class DatasetFinding:
    """What was found of the dataset.

    Attributes:
        images: how many there are, where that is known.
        to_download: bytes that `prepare` would download; None: not known.
        to_unpack: bytes of images that it would write.
    """

    finding: Finding
    images: int | None
    to_download: int | None = 0
    to_unpack: int = 0


def check_dataset(params: Params) -> DatasetFinding:
    """Whether the dataset is there and complete: its images and captions by split."""
    if params.data.source == "scenes":
        scenes = params.data.scenes
        counts = ", ".join(f"{split} {getattr(scenes, split)}" for split in SPLITS)
        total = sum(getattr(scenes, split) for split in SPLITS)
        return DatasetFinding(Finding("ok", "dataset", f"scenes ({counts}), drawn by prepare"), total)
    if params.data.source == "hub":
        return _check_hub_dataset(params.data)
    try:
        items = read_dataset(params.data)
    except PipelineError as error:
        remedy = "mend the files, or `dvc exp run -S data.root=FOLDER` with the dataset's folder"
        return DatasetFinding(Finding("problem", "dataset", str(error), remedy), None)
    images = Counter(item.split for item in items)
    captions: Counter[str] = Counter()
    for item in items:
        captions[item.split] += len(item.captions)
    text = ", ".join(
        f"{split} {images[split]:,} images with {captions[split]:,} captions" for split in SPLITS
    )
    found = Finding("ok", "dataset", f"{params.data.source} in {params.data.root}: {text}")
    return DatasetFinding(found, len(items))


def _check_hub_dataset(params: DataParams) -> DatasetFinding:
    """What the pins name, and how much of it prepare would still download; the hub is asked for sizes."""
    try:
        pins = read_pins(Path(params.root))
    except PipelineError as error:
        remedy = "mend the file, or `dvc exp run -S data.root=FILE` with a file of pins"
        return DatasetFinding(Finding("problem", "dataset", str(error), remedy), None)
    repository = HubRepository(pins.repository, pins.revision, "dataset")
    shards = needed_shards(pins, params.limits)
    images: Counter[str] = Counter()
    for shard, rows in shards:
        images[shard.split] += rows
    counts = ", ".join(f"{split} {images[split]:,}" for split in SPLITS)
    text = f"{repository} at {pins.revision:.7} ({counts} images)"
    try:
        files = [ask_for_file(repository, shard.file) for shard, _ in shards]
    except PipelineError as error:
        remedy = "mend that, or take a copy of your own as data.source and data.root in params.yaml"
        found = Finding("problem", "dataset", f"{text}: {error}", remedy)
        return DatasetFinding(found, images.total(), to_download=None)
    missing = [file.size for file in files if not file.is_cached]
    what = f"prepare downloads {len(missing)} files, {sum(missing) / 1e9:.2f} GB"
    found = Finding("ok", "dataset", f"{text}: {what if missing else 'in the hub cache'}")
    # Parquet hardly compresses JPEG: the images take as much again.
    return DatasetFinding(found, images.total(), sum(missing), sum(file.size for file in files))


def check_git(folder: Path) -> Finding:
    """Whether there is a git repository with a commit, which DVC compares with."""
    first = '`git init && git add -A && git commit -m "First run"`'
    try:
        inside = _run(folder, "git", "rev-parse", "--is-inside-work-tree")
        commit = _run(folder, "git", "rev-parse", "--verify", "--short", "HEAD")
    except OSError:
        return Finding("problem", "git", "git is not installed", "install git, which DVC needs")
    if inside.returncode != 0:
        return Finding("problem", "git", "this folder is in no git repository", first)
    if commit.returncode != 0:
        return Finding("warning", "git", "no commit yet, which `dvc exp run` needs", first)
    return Finding("ok", "git", f"at commit {commit.stdout.strip()}")


def check_stages(folder: Path) -> Finding:
    """Which stages the next `dvc repro` would run: those that changed, and those that follow from them."""
    if not (folder / "dvc.yaml").is_file():
        return Finding("problem", "stages", "there is no dvc.yaml here", "run in the project's folder")
    try:
        status = _run(folder, sys.executable, "-m", "dvc", "status", "--json")
    except subprocess.TimeoutExpired:
        return Finding("warning", "stages", "`dvc status` takes very long", "run it by itself")
    try:
        changed = set(json.loads(status.stdout))
    except ValueError:
        return _why_no_status(status.stderr.strip() or status.stdout.strip() or "nothing")
    stages = YAML(typ="safe").load((folder / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    waiting = with_followers(stages, changed)
    if not waiting:
        return Finding("ok", "stages", "all up to date, nothing to run")
    return Finding("ok", "stages", f"`dvc repro` would run {', '.join(waiting)}")


def _why_no_status(said: str) -> Finding:
    """DVC's error, without its advice to remove the lock of one that is at work."""
    if "is busy" in said and (process := re.search(r"\(PID (\d+)\): *(.+)", said)):
        text = f"DVC is at work (process {process[1]}: {process[2]}), so what is left to run is not known"
        remedy = f"wait until it has ended; if process {process[1]} is not DVC, remove .dvc/tmp/rwlock"
        return Finding("warning", "stages", text, remedy)
    if "Unable to acquire lock" in said:
        text = "DVC is at work in this repository, so what is left to run is not known"
        return Finding("warning", "stages", text, "wait until it has ended")
    lines = said.splitlines()
    error = next((line for line in lines if line.startswith("ERROR: ")), lines[-1]).removeprefix("ERROR: ")
    return Finding("warning", "stages", f"`dvc status` failed and said: {error}", "`dvc status -v`")


def _run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "DVC_NO_ANALYTICS": "1"},
        capture_output=True,
        text=True,
        timeout=_DVC_TIMEOUT,
        check=False,
    )
