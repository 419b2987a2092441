"""Two processes train as one does: same gradients, same checkpoints, one of them writes."""

from pathlib import Path

import pytest

from pipeline.params.schema import Params
from tests.e2e.conftest import Project, make_project
from tests.unit.training.builders import losses, make_lab


@pytest.fixture
def project(tmp_path: Path, tiny_params: Params) -> Project:
    """A project in which training can begin."""
    project = make_project(tmp_path / "project", tiny_params)
    make_lab(project.folder / "data", tiny_params, images=10)
    return project


def test_gradients_of_two_processes_are_those_of_one(project: Project, tmp_path: Path) -> None:
    alone = project.stage("train")
    for name in ("plots/training.csv", ".scratch"):
        (project.folder / name).rename(tmp_path / Path(name).name)
    # accelerate launch does the same on GPUs; on CPUs it leaves the starting of processes to MPI.
    together = project.run("torchrun", "--nproc-per-node=2", "-m", "stages.train")

    assert losses(project.folder / "plots") == pytest.approx(losses(tmp_path), rel=1e-3)
    assert "2 processes share each batch" in together
    # Both say what they did once.
    for printed in (alone, together):
        assert printed.count("steps trained now") == 1
