"""What README says under "How it behaves", with the real DVC.

The tests share one project and run in order. It has a dataset of its own, outside of the repository.
"""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.params.loader import load_params
from pipeline.params.schema import Params
from tests.e2e.conftest import Project, make_project
from tests.e2e.test_bad_input import write_dataset
from tests.e2e.test_dvc import stages_run


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_params: Params) -> Project:
    """A project whose DVC cache is linked to, on six images."""
    folder = tmp_path_factory.mktemp("behaviour")
    write_dataset(folder / "photos")
    data = replace(tiny_params.data, source="jsonl", root=str(folder / "photos"))
    project = make_project(folder / "project", replace(tiny_params, data=data))
    project.run("dvc", "config", "cache.type", "hardlink,symlink")
    project.commit("links")
    return project


def cached(project: Project) -> dict[Path, str]:
    """The files in DVC's cache, and the MD5 that each should have: its name."""
    root = project.folder / ".dvc" / "cache" / "files" / "md5"
    return {path: path.parent.name + path.name for path in root.rglob("*") if path.is_file()}


def test_large_outputs_are_linked_and_never_written_in_place(project: Project) -> None:
    project.run("dvc", "repro", "encode", "tokenize")
    features = project.folder / "data/features.h5"
    assert features.stat().st_nlink > 1
    assert features.stat().st_mode & 0o222 == 0
    # The same stages with other parameters: what lies in the cache stays what it was.
    changes = ("encoder.layer=-1", "prompt.lowercase=false", "train.learning_rate=1e-5")
    project.run("dvc", "exp", "run", *(part for one in changes for part in ("-S", one)), "tokenize", "encode")
    for path, md5 in cached(project).items():
        content = path.read_bytes()
        assert hashlib.md5(content, usedforsecurity=False).hexdigest() == md5.removesuffix(".dir")


def test_numbers_that_dvc_writes_are_numbers(project: Project) -> None:
    """DVC writes 1e-05, which YAML 1.1 reads as text."""
    params = project.folder / "params.yaml"
    assert "learning_rate: 1e-05" in params.read_text()
    assert load_params(params).train.learning_rate == 1e-5


def test_a_run_apart_sees_a_dataset_by_its_absolute_path(project: Project) -> None:
    project.commit("parameters")
    printed = project.run("dvc", "exp", "run", "--temp", "-S", "data.limits.train=2", "prepare")
    assert stages_run(printed) == {"prepare"}
    assert "4 images (train 2, dev 1, test 1)" in printed


def test_a_run_apart_does_not_see_what_nobody_tracks_unless_it_is_copied(project: Project) -> None:
    shutil.copytree(project.folder.parent / "photos", project.folder / "mine")
    (project.folder / ".git/info/exclude").write_text("/mine/\n")
    apart = ("dvc", "exp", "run", "--temp", "-S", "data.root=mine", "-S", "data.limits.train=3")
    printed = project.run(*apart, "prepare", code=255)
    assert "mine" in printed
    assert "Traceback" not in printed
    printed = project.run(*apart, "--copy-paths", "mine", "prepare")
    assert "5 images (train 3, dev 1, test 1)" in printed


@pytest.fixture(scope="module")
def trained_elsewhere(project: Project) -> tuple[Project, str]:
    """A clone that pulled the features and trained, without the dataset, and what it printed."""
    # In the workspace the last parameters are those of the first test.
    project.run("dvc", "repro", "train")
    project.run("dvc", "remote", "add", "-d", "storage", str(project.folder.parent / "storage"))
    project.commit("features, and where they lie")
    project.run("dvc", "push", "encode", "tokenize")
    other = Project(project.folder.parent / "other")
    project.run("git", "clone", "-q", str(project.folder), str(other.folder))
    other.run("dvc", "pull", "encode", "tokenize")
    shutil.rmtree(project.folder.parent / "photos")
    # What the commit says of training is done already.
    assert not stages_run(other.run("dvc", "repro", "--allow-missing", "train"))
    command = ("dvc", "exp", "run", "--allow-missing", "-S", "train.learning_rate=2e-3", "train")
    return other, other.run(*command)


def test_who_pulls_the_features_trains_without_images_and_encoder(
    trained_elsewhere: tuple[Project, str],
) -> None:
    other, printed = trained_elsewhere
    assert stages_run(printed) == {"train"}
    assert (other.folder / "data/checkpoints/epoch_002.safetensors").is_file()


def test_without_a_terminal_progress_is_lines(trained_elsewhere: tuple[Project, str]) -> None:
    _, printed = trained_elsewhere
    steps = [line for line in printed.splitlines() if "epoch 1: step" in line]
    assert steps
    assert all("loss" in line for line in steps)
    # A bar's marks.
    assert not [mark for mark in ("it/s", "s/it", "%|") if mark in "".join(steps)]
