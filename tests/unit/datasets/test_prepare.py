"""The stage that writes the table: both files or neither, every bad image named at once, and what it says.

Run: .venv/bin/python -m pytest tests/unit/datasets/test_prepare.py
"""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from pipeline.files.json_files import sha256_of_file, write_jsonl
from pipeline.params.schema import Params
from tests.dataset_makers import data_params
from tests.refusals import refusal
from tests.unit.project import Project


@pytest.fixture
def project(tmp_path: Path, tiny_params: Params) -> Project:
    """Twenty images of different sizes, two captions each; the splits come from hashes."""
    mine = tmp_path / "mine"
    mine.mkdir()
    for n in range(20):
        Image.new("RGB", (10 + n, 8), (n, n, n)).save(mine / f"{n:02}.png")
    numbers = reversed(range(20))
    rows = [{"image": f"{n:02}.png", "captions": [f"Number {n}.", "A small number."]} for n in numbers]
    write_jsonl(mine / "captions.jsonl", rows)
    return Project(tmp_path, replace(tiny_params, data=data_params("jsonl", mine)))


def tables(project: Project) -> list[bytes]:
    return [(project.data / f"{name}.jsonl").read_bytes() for name in ("images", "captions")]


def test_the_table_is_written(project: Project) -> None:
    assert project.prepare() == "20 images (train 16, dev 2, test 2), 40 captions"
    images, captions = project.images, project.records
    assert [image.image_id for image in images] == [record.image_id for record in captions]
    assert [(image.width, image.height) for image in images] == [(10 + n, 8) for n in range(20)]
    path = project.folder / "mine" / "03.png"
    assert (images[3].path, images[3].sha256) == (path.as_posix(), sha256_of_file(path))
    assert captions[3].captions == ("Number 3.", "A small number.")
    assert list((project.data / "images").iterdir()) == []


def test_an_image_in_several_splits_is_a_warning(project: Project, log: pytest.LogCaptureFixture) -> None:
    project.prepare()
    assert "2 captions an image, 2 to 3 words a caption, images of 10 to 29 x 8 pixels" in log.text
    assert "in several splits" not in log.text
    splits = {record.split: record.image_id for record in project.records}
    mine = project.folder / "mine"
    for copy in (splits["dev"], splits["test"]):
        shutil.copy(mine / splits["train"], mine / copy)
    project.prepare()
    assert "1 images are in several splits under different names" in log.text
    assert f"{splits['train']} (train)" in log.text
    assert f"{splits['dev']} (dev)" in log.text


def test_the_number_of_workers_changes_no_byte(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative root gives relative paths."""
    monkeypatch.chdir(project.folder)
    project = replace(project, params=replace(project.params, data=data_params("jsonl", Path("mine"))))
    written = []
    for workers in (2, 0):
        project.prepare(workers)
        written.append(tables(project))
    assert written[0] == written[1]
    assert project.images[0].path == "mine/00.png"


def test_all_bad_images_are_named_at_once_and_the_last_table_stays(project: Project) -> None:
    project.prepare()
    before, mine = tables(project), project.folder / "mine"
    (mine / "01.png").write_bytes(b"")
    (mine / "05.png").write_text("<html>")
    for n in (7, 8, 9, 10):
        Image.new("1", (1000, 501)).save(mine / f"{n:02}.png")
    first, *lines = refusal(project.prepare).split("\n")
    assert first == "6 of 20 images cannot be used:"
    for line, named in zip(lines, ["01.png", "05.png", "07.png", "08.png", "09.png", "1 more"], strict=True):
        assert named in line
    assert "data.max_megapixels is 0.5" in lines[2]
    assert tables(project) == before


def test_an_image_folder_with_other_files_is_refused(project: Project) -> None:
    (project.data / "images").mkdir(parents=True)
    (project.data / "images" / "old.png").touch()
    refusal(project.prepare, match=r"data/images holds files.*jsonl.*dvc repro prepare")


def test_scenes_of_another_seed_replace_those_of_before(tmp_path: Path, tiny_params: Params) -> None:
    project = Project(tmp_path, replace(tiny_params, data=data_params("scenes", tmp_path)))
    assert project.prepare().startswith("6 images (train 3, dev 1, test 2), ")
    assert any(record.objects for record in project.records)
    before, folder = project.images, project.data / "images"
    (folder / "of_before.png").touch()
    other = replace(tiny_params, data=data_params("scenes", tmp_path, seed=1))
    replace(project, params=other).prepare()
    images = project.images
    assert [image.sha256 for image in images] == [sha256_of_file(Path(image.path)) for image in images]
    assert {image.sha256 for image in images}.isdisjoint(image.sha256 for image in before)
    assert {path.name for path in folder.iterdir()} == {image.image_id for image in images}
