"""A new training says how it differs from the training that ran last.

Run: .venv/bin/python -m pytest tests/unit/training/test_new_training.py
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.model.checkpoints import load_checkpoint, tensor_digest
from pipeline.params.schema import Params
from pipeline.training.provenance import dataset_identity
from tests.edited_code import edited_code
from tests.params_files import with_changes
from tests.unit.training.builders import STEPS, Lab, checkpoint, make_lab, save_features, scratch_file

PREFIX = "New training from step 1: "
Explain = Callable[[], list[str]]


@pytest.fixture
def explanations(log: pytest.LogCaptureFixture) -> Explain:
    """Returns what was said of new trainings so far."""
    return lambda: [line.removeprefix(PREFIX) for line in log.messages if line.startswith(PREFIX)]


def test_what_differs_from_the_last_training_is_named(
    lab: Lab, tmp_path: Path, explanations: Explain, tiny_params: Params
) -> None:
    """Values of params are shown; of inputs, which are known by their digests, only the kind."""
    lab.train(tmp_path, epochs=1)
    lab.train(tmp_path, epochs=1, learning_rate=0.25)
    # A run that continues says nothing, and is the last one from then on.
    assert lab.train(tmp_path, epochs=2).trained_steps == STEPS
    lab.train(tmp_path, epochs=1, ema_decay=0.25)
    lab.train(tmp_path, epochs=1)
    other = replace(lab, features=tmp_path / "features.h5")
    save_features(other.features, 8, seed=1)
    other.train(tmp_path, epochs=1)
    # Other images have other features, too, of which nothing is said.
    more = make_lab(tmp_path, tiny_params, images=9)
    more.train(tmp_path, epochs=1)
    with edited_code("training/optimizer.py"):
        more.train(tmp_path, epochs=1, seed=1)
    usual = lab.params.train
    assert explanations() == [
        f"train.learning_rate is 0.25, was {usual.learning_rate}.",
        f"train.ema_decay is 0.25, was {usual.ema_decay}.",
        "the features differ from those of the last run.",
        "the images or captions differ from those of the last run.",
        "the code differs from that of the last run; train.seed is 1, was 0.",
    ]


def test_another_dataset_of_equal_bytes_is_another_training(
    lab: Lab, tmp_path: Path, explanations: Explain
) -> None:
    """The weights are equal; no checkpoint of the one says that it was trained on the other."""
    lab.train(tmp_path, epochs=1)
    scenes = load_checkpoint(checkpoint(tmp_path))
    other, moved = (
        replace(lab, params=with_changes(lab.params, data={"source": "csv", "root": f"/{place}/photos"}))
        for place in ("somewhere", "elsewhere")
    )
    assert other.train(tmp_path, epochs=1).trained_steps == STEPS
    assert explanations() == ["data.name is 'photos', was 'scenes'; data.source is 'csv', was 'scenes'."]
    photos = load_checkpoint(checkpoint(tmp_path))
    assert photos.info.trained_on == "Trained on 8 images of the folder photos."
    assert tensor_digest(photos.projector.state_dict()) == tensor_digest(scenes.projector.state_dict())
    assert moved.train(tmp_path, epochs=1).trained_steps == 0


@pytest.mark.parametrize(
    ("source", "root", "pins", "name"),
    [
        ("flickr8k", "/data/f8k", "no", "Flickr8k"),
        ("hub", "pinned", "flickr8k.json", "Flickr8k"),
        ("hub", "pinned", "coco.json", "coco"),
        ("karpathy", "/data/coco", "no", "coco"),
        ("jsonl", ".", "no", "."),
    ],
)
def test_a_dataset_is_named_by_its_source_its_pins_or_its_folder(
    tiny_params: Params, source: Any, root: str, pins: str, name: str
) -> None:
    data = replace(tiny_params.data, source=source, root=root, pins=pins)
    assert dataset_identity(data) == {"source": source, "name": name}


def test_a_damaged_provenance_is_replaced(lab: Lab, tmp_path: Path, explanations: Explain) -> None:
    lab.train(tmp_path, epochs=1)
    file = scratch_file(tmp_path, "provenance.json")
    content = file.read_bytes()
    file.write_bytes(content[:100])
    lab.train(tmp_path, epochs=1, seed=1)
    assert explanations() == []
    assert lab.train(tmp_path, epochs=1).trained_steps == 0
    assert file.read_bytes() == content
