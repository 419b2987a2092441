"""Two processes train as one does: same gradients, same checkpoints, one of them writes."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.model.checkpoints import load_tensors
from pipeline.params.schema import Params
from tests.e2e.conftest import Project, make_project
from tests.unit.training.builders import make_lab

# accelerate launch does the same on GPUs; on CPUs it leaves the starting of processes to MPI.
LAUNCH = "torchrun --nproc-per-node=2"


@pytest.fixture
def project(tmp_path: Path, tiny_params: Params) -> Project:
    """A project in which training can begin."""
    params = replace(tiny_params, train=replace(tiny_params.train, epochs=2))
    project = make_project(tmp_path / "project", params)
    make_lab(project.folder / "data", params, images=10)
    return project


def steps_of(folder: Path) -> list[dict[str, float]]:
    with (folder / "plots/training.csv").open(encoding="utf-8") as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def test_gradients_of_two_processes_are_those_of_one(project: Project, tmp_path: Path) -> None:
    alone = project.stage("train")
    kept = tmp_path / "alone"
    for name in ("data/checkpoints", "plots"):
        (kept / name).parent.mkdir(parents=True, exist_ok=True)
        (project.folder / name).rename(kept / name)
    (project.folder / ".scratch").rename(kept / "scratch")
    together = project.run(*LAUNCH.split(), "-m", "stages.train")

    found, expected = steps_of(project.folder), steps_of(kept)
    # In the first step both start from the same weights, so norms differ by rounding alone.
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    assert [step["loss"] for step in found] == pytest.approx([step["loss"] for step in expected], rel=1e-3)
    last = "data/checkpoints/epoch_002.safetensors"
    weights, _ = load_tensors(project.folder / last)
    for name, value in load_tensors(kept / last)[0].items():
        assert (weights[name] - value).abs().max() < 1e-3, name
    assert "2 processes share each batch" in together
    # Both say what they did once.
    for printed in (alone, together):
        assert printed.count("steps trained now") == 1
