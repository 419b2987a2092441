"""The stage that writes the table: both files or neither, every bad image named at once, and what it says.

Run: .venv/bin/python -m pytest tests/unit/datasets/test_prepare.py
"""

import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from PIL import Image

from pipeline.captions import read_captions, read_images
from pipeline.datasets.prepare import prepare
from pipeline.errors import PipelineError
from pipeline.files.json_files import sha256_of_file
from tests.dataset_makers import data_params


@dataclass
class Project:
    """A folder in which `prepare` writes as its stage does."""

    folder: Path
    source: str = "jsonl"
    root: Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        data = self.folder / "data"
        self.images, self.captions = data / "images.jsonl", data / "captions.jsonl"
        self.image_folder, self.photos = data / "images", self.folder / "mine"

    def prepare(self, workers: int = 2) -> str:
        params = data_params(self.source, self.root or self.photos, seed=self.seed)
        return prepare(params, self.images, self.captions, self.image_folder, workers)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Twenty images of different sizes, two captions each; the splits come from hashes."""
    project = Project(tmp_path)
    project.photos.mkdir()
    rows = []
    for n in range(20):
        Image.new("RGB", (10 + n, 8), (n, n, n)).save(project.photos / f"{n:02}.png")
        rows.append(json.dumps({"image": f"{n:02}.png", "captions": [f"Number {n}.", "A small number."]}))
    (project.photos / "captions.jsonl").write_text("\n".join(reversed(rows)))
    return project


def test_the_table_is_written(project: Project) -> None:
    assert project.prepare() == "20 images (train 16, dev 2, test 2), 40 captions"
    images, captions = read_images(project.images), read_captions(project.captions)
    assert [image.image_id for image in images] == [record.image_id for record in captions]
    assert [(image.width, image.height) for image in images] == [(10 + n, 8) for n in range(20)]
    path = project.photos / "03.png"
    assert (images[3].path, images[3].sha256) == (path.as_posix(), sha256_of_file(path))
    assert captions[3].captions == ("Number 3.", "A small number.")
    assert list(project.image_folder.iterdir()) == []


def test_the_log_sums_the_dataset_up_and_warns_of_images_in_several_splits(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pipeline")
    project.prepare()
    assert "2 captions an image, 2 to 3 words a caption, images of 10 to 29 x 8 pixels" in caplog.text
    assert "in several splits" not in caplog.text
    splits = {record.split: record.image_id for record in read_captions(project.captions)}
    for copy in (splits["dev"], splits["test"]):
        (project.photos / copy).write_bytes((project.photos / splits["train"]).read_bytes())
    project.prepare()
    assert "1 images are in several splits under different names" in caplog.text
    assert f"{splits['train']} (train)" in caplog.text
    assert f"{splits['dev']} (dev)" in caplog.text


def test_the_number_of_workers_changes_nothing_and_a_relative_root_gives_relative_paths(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.folder)
    project.root = Path("mine")
    tables = []
    for workers in (2, 0):
        project.prepare(workers)
        tables.append((project.images.read_bytes(), project.captions.read_bytes()))
    assert tables[0] == tables[1]
    assert read_images(project.images)[0].path == "mine/00.png"


def test_all_bad_images_are_named_at_once_and_the_last_table_stays(project: Project) -> None:
    project.prepare()
    before = [path.read_bytes() for path in (project.images, project.captions)]
    mine = project.photos
    (mine / "01.png").write_bytes(b"")
    (mine / "05.png").write_text("<html>")
    for n in (7, 8, 9, 10):
        Image.new("1", (1000, 501)).save(mine / f"{n:02}.png")
    with pytest.raises(PipelineError) as caught:
        project.prepare()
    first, *lines = str(caught.value).split("\n")
    assert first == "6 of 20 images cannot be used:"
    for line, named in zip(lines, ["01.png", "05.png", "07.png", "08.png", "09.png", "1 more"], strict=True):
        assert named in line
    assert "data.max_megapixels is 0.5" in lines[2]
    assert [path.read_bytes() for path in (project.images, project.captions)] == before


def test_an_image_folder_with_other_files_is_refused(project: Project) -> None:
    project.image_folder.mkdir(parents=True)
    (project.image_folder / "old.png").touch()
    with pytest.raises(PipelineError, match=r"data/images holds files.*jsonl.*dvc repro prepare"):
        project.prepare()


def test_scenes_of_another_seed_replace_those_of_before(tmp_path: Path) -> None:
    project = Project(tmp_path, source="scenes")
    assert project.prepare().startswith("6 images (train 3, dev 1, test 2), ")
    assert any(record.objects for record in read_captions(project.captions))
    before = read_images(project.images)
    (project.image_folder / "of_before.png").touch()
    replace(project, seed=1).prepare()
    images = read_images(project.images)
    assert [image.sha256 for image in images] == [sha256_of_file(Path(image.path)) for image in images]
    assert {image.sha256 for image in images}.isdisjoint(image.sha256 for image in before)
    assert {path.name for path in project.image_folder.iterdir()} == {image.image_id for image in images}
