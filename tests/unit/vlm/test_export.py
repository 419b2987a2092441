"""`vlm export`: a folder in another project's format, with what the project knows of the run.

Run: .venv/bin/python -m pytest tests/unit/vlm/test_export.py
"""

import shutil
from functools import partial
from pathlib import Path

import pytest

from pipeline.export.folder import new_folder
from tests.import_closure import ROOT
from tests.tiny_captioner import save_scores
from tests.vlm_command import run_vlm


@pytest.fixture
def project(photos: Path) -> Path:
    """A project with a checkpoint, its scores and the sample's params.yaml."""
    shutil.copy(ROOT / "params.yaml", photos.parent)
    save_scores(photos.parent / "metrics" / "evaluate.json")
    return photos.parent


run = partial(run_vlm, "export", "--format", "llava")


def card(project: Path, out: str) -> str:
    """The model card of an export."""
    return (project / out / "README.md").read_text()


def test_an_export_has_weights_and_a_card_with_scores_and_data(project: Path) -> None:
    assert run("out/model").stdout.startswith("out/model: llava, ")
    assert (project / "out/model/model.safetensors").is_file()
    assert "12.50" in card(project, "out/model")
    assert "generated scenes" in card(project, "out/model")


def test_a_checkpoint_that_is_named_gets_the_scores_that_are_named(project: Path) -> None:
    save_scores(project / "metrics" / "evaluate.json", epoch=7)
    assert "The card has no scores" in run("a", "--checkpoint", "data").stdout
    other = run("b", "--checkpoint", "data", "--metrics", "metrics/evaluate.json", code=1)
    assert "epoch 7" in other.stderr


def test_a_dataset_of_the_hub_is_called_by_its_repository(project: Path) -> None:
    shutil.copy(ROOT / "profiles" / "flickr8k.yaml", project / "params.yaml")
    pinned = project / "pipeline" / "datasets" / "pinned" / "flickr8k.json"
    pinned.parent.mkdir(parents=True)
    pins = (ROOT / "pipeline" / "datasets" / "pinned" / "flickr8k.json").read_text()
    pinned.write_text(pins.replace("jxie/flickr8k", "someone/pictures"))
    run("out")
    assert "someone/pictures" in card(project, "out")


def test_without_the_projects_parameters_the_card_does_not_name_the_dataset(project: Path) -> None:
    (project / "params.yaml").write_text("lr: 0.1\n")
    result = run("out")
    assert "The card does not name the dataset" in result.stdout
    assert "unknown key lr" in result.stderr
    assert "generated scenes" not in card(project, "out")


def test_what_a_killed_export_left_is_removed_by_the_next(project: Path) -> None:
    left, other = project / ".out.partial-export", project / ".out.notes"
    for folder in (left, other):
        folder.mkdir()
    run("out")
    assert not left.exists()
    assert other.exists()


def test_a_second_export_to_one_folder_is_refused(project: Path) -> None:
    with new_folder(project / "out") as working:
        assert "by process" in run("out", code=1).stderr
        assert working.is_dir()
