"""A small training run; a project in which all stages up to evaluation have been run, and its captioner."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import Captioner
from pipeline.params.schema import Params
from tests.params_files import with_changes
from tests.unit.project import Project
from tests.unit.training.builders import STEPS, Lab, make_lab


@pytest.fixture(scope="module")
def make_project(tiny_params: Params, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Project]:
    """Runs all stages up to evaluation in their own folder."""

    def make(similar_captions: int = 0) -> Project:
        params = with_changes(tiny_params, prompt={"similar_captions": similar_captions})
        project = Project(tmp_path_factory.mktemp("project"), params)
        project.run()
        return project

    return make


@pytest.fixture(scope="module")
def project(make_project: Callable[..., Project]) -> Project:
    return make_project()


@pytest.fixture(scope="module")
def captioner(project: Project) -> Captioner:
    return Captioner.load(project.best, device="cpu")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, tiny_params: Params) -> Lab:
    """Eight images to train on."""
    return make_lab(tmp_path_factory.mktemp("lab"), tiny_params)


@pytest.fixture(scope="module")
def finished(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three epochs without interruption, whose state was saved only at the ends of epochs."""
    folder = tmp_path_factory.mktemp("finished")
    summary = lab.train(folder, epochs=3, runtime={"save_every_seconds": 1e9})
    assert (summary.epochs, summary.steps, summary.trained_steps) == (3, 3 * STEPS, 3 * STEPS)
    return folder


@pytest.fixture
def llama(tiny_llama: Path, tmp_path: Path) -> Path:
    """A language model's folder that a test may change."""
    return shutil.copytree(tiny_llama, tmp_path / "llama")
