"""What README says under "How it behaves", with the real DVC.

The tests share one project and run in order. Its dataset lies outside the repository.
Run: .venv/bin/python -m pytest tests/e2e/test_how_it_behaves.py
"""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from pipeline.params.loader import load_params
from pipeline.params.schema import Params
from tests.e2e.conftest import Project, make_project, stages_run
from tests.params_files import with_changes


def add_image(root: Path, name: str, split: str, shade: int) -> None:
    """Draw an image and list it with two captions."""
    Image.new("RGB", (40, 30), (shade, 90, 200)).save(root / name)
    row = {"image": name, "captions": [f"A picture of {name}.", "One color."], "split": split}
    with (root / "captions.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_params: Params) -> Project:
    """A project whose DVC cache is linked to, on six images."""
    folder = tmp_path_factory.mktemp("behavior")
    photos = folder / "photos"
    photos.mkdir()
    for number, split in enumerate(["train"] * 4 + ["dev", "test"]):
        add_image(photos, f"{number}.png", split, number * 40)
    data = {"source": "jsonl", "root": str(photos)}
    project = make_project(folder / "project", with_changes(tiny_params, data=data, train={"epochs": 1}))
    project.run("dvc", "config", "cache.type", "hardlink,symlink")
    project.commit("links")
    return project


@pytest.fixture(scope="module")
def photos(project: Project) -> Path:
    return project.folder.parent / "photos"


def test_large_outputs_are_linked_and_cannot_be_written(project: Project) -> None:
    assert stages_run(project.run("dvc", "repro", "encode")) == {"prepare", "encode"}
    features = (project.folder / "data/features.h5").stat()
    assert features.st_nlink > 1
    assert features.st_mode & 0o222 == 0


def test_a_corrected_caption_encodes_nothing(project: Project, photos: Path) -> None:
    listed = photos / "captions.jsonl"
    listed.write_text(listed.read_text().replace("One color.", "A single color.", 1))
    assert stages_run(project.run("dvc", "repro", "encode")) == {"prepare"}


def test_only_changed_and_added_images_are_encoded(project: Project, photos: Path) -> None:
    Image.new("RGB", (40, 30), (1, 2, 3)).save(photos / "1.png")
    add_image(photos, "new.png", "train", 9)
    printed = project.run("dvc", "repro", "tokenize", "retrieve")
    assert stages_run(printed) == {"prepare", "encode", "retrieve", "tokenize"}
    assert "2 of 7 images encoded now" in printed


def test_what_lies_in_the_cache_was_never_written_over(project: Project) -> None:
    """The stages have run again, with outputs that were links into the cache."""
    cached = [path for path in (project.folder / ".dvc/cache/files/md5").rglob("*") if path.is_file()]
    assert len(cached) > 4
    for path in cached:
        content = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        assert content == (path.parent.name + path.name).removesuffix(".dir")


def test_a_run_apart_sees_a_dataset_by_its_absolute_path_and_changes_no_file_here(project: Project) -> None:
    project.commit("features")
    printed = project.run("dvc", "exp", "run", "--temp", "-S", "data.limits.train=2", "prepare")
    assert stages_run(printed) == {"prepare"}
    assert "4 images (train 2, dev 1, test 1)" in printed
    assert project.run("git", "status", "--porcelain") == ""


def test_a_clone_that_pulls_the_features_trains_without_images(project: Project, photos: Path) -> None:
    project.run("dvc", "remote", "add", "-d", "storage", str(project.folder.parent / "storage"))
    project.commit("where the features lie")
    project.run("dvc", "push", "encode", "retrieve", "tokenize")
    clone = Project(project.folder.parent / "clone")
    project.run("git", "clone", "-q", str(project.folder), str(clone.folder))
    clone.run("dvc", "pull", "encode", "retrieve", "tokenize")
    shutil.rmtree(photos)
    printed = clone.run("dvc", "exp", "run", "--allow-missing", "-S", "train.learning_rate=1e-5", "train")
    assert stages_run(printed) == {"train"}
    assert (clone.folder / "data/checkpoints/epoch_001.safetensors").is_file()
    # DVC writes 1e-05, which YAML 1.1 reads as text.
    assert "learning_rate: 1e-05" in (clone.folder / "params.yaml").read_text()
    assert load_params(clone.folder / "params.yaml").train.learning_rate == 1e-5
    # Without a terminal progress is lines, without a bar's marks.
    assert not [mark for mark in ("it/s", "s/it", "%|", "\r") if mark in printed]
