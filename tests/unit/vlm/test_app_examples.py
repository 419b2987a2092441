"""The page's example images are of the kind that the model was trained on.

Run: .venv/bin/python -m pytest tests/unit/vlm/test_app_examples.py
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from pipeline.captions import CaptionRecord, ImageRecord, write_captions, write_images
from pipeline.model.checkpoints import CheckpointInfo, load_checkpoint
from tests.unit.vlm.test_app_answers import picture
from vlm.app.examples import example_pictures


@pytest.fixture(scope="module")
def scenes(tiny_checkpoint: Path) -> CheckpointInfo:
    return load_checkpoint(tiny_checkpoint).info


def test_a_model_of_scenes_gets_scenes_wherever_it_lies(scenes: CheckpointInfo, tmp_path: Path) -> None:
    pictures = example_pictures(tmp_path / "best.safetensors", scenes, max_megapixels=1)
    assert [picture(address).size for address in pictures] == [(224, 224)] * 5
    assert len(set(pictures)) == 5


def test_on_a_disk_that_takes_no_scenes_there_are_none(
    scenes: CheckpointInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    assert example_pictures(tmp_path / "best.safetensors", scenes, max_megapixels=1) == []


def test_another_model_gets_test_images_of_its_run_or_none(scenes: CheckpointInfo, tmp_path: Path) -> None:
    photos = replace(scenes, data={"name": "photos", "images": 2})
    data = tmp_path / "data"
    assert example_pictures(data / "best.safetensors", photos, max_megapixels=1) == []
    for name, size in (("seen.png", (10, 10)), ("test.png", (800, 600))):
        Image.new("RGB", size).save(tmp_path / name)
    names = {"seen.png": "train", "test.png": "test"}
    records = [CaptionRecord(name, split, ("a dog",)) for name, split in names.items()]  # type: ignore[arg-type]
    write_captions(data / "captions.jsonl", records)
    # Relative to the project, which need not be the current folder.
    write_images(data / "images.jsonl", [ImageRecord(n, n, "0f", 10, 10) for n in names])
    (address,) = example_pictures(data / "best.safetensors", photos, max_megapixels=1)
    assert picture(address).size == (640, 480)
    (tmp_path / "test.png").unlink()
    assert example_pictures(data / "best.safetensors", photos, max_megapixels=1) == []
