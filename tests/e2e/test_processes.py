"""Two processes train as one does: same gradients, same checkpoints, one of them writes."""

import csv
import shutil
from pathlib import Path

import pytest

from pipeline.model.checkpoints import load_tensors
from tests.e2e.conftest import Project

# accelerate launch does the same on GPUs; on CPUs it leaves the starting of processes to MPI.
LAUNCH = "torchrun --nproc-per-node=2"


def steps_of(project: Project) -> list[dict[str, float]]:
    with (project.folder / "plots/training.csv").open(encoding="utf-8") as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def last_checkpoint(folder: Path) -> Path:
    return sorted((folder / "data/checkpoints").iterdir())[-1]


def test_gradients_of_two_processes_are_those_of_one(project: Project, tmp_path: Path) -> None:
    for stage in ("prepare", "encode", "tokenize", "train"):
        alone = project.stage(stage)
    expected = steps_of(project)
    kept = shutil.copy(last_checkpoint(project.folder), tmp_path / "alone.safetensors")
    shutil.rmtree(project.folder / ".scratch")

    together = project.run(*LAUNCH.split(), "-m", "stages.train")
    found = steps_of(project)
    assert len(found) == len(expected)
    # In the first step both start from the same weights, so norms differ by rounding alone.
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    for one, other in zip(found, expected, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-3)
    weights, _ = load_tensors(last_checkpoint(project.folder))
    for name, value in load_tensors(Path(kept))[0].items():
        assert (weights[name] - value).abs().max() < 1e-3, name
    assert "2 processes share each batch" in together
    # Both say what they did once.
    for printed in (alone, together):
        assert printed.count("steps trained now") == 1
