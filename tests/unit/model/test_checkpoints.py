"""Checkpoints: what was saved comes back, equal content gives equal bytes, and damage is refused.

Run: .venv/bin/python -m pytest tests/unit/model/test_checkpoints.py
"""

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from pipeline.model.checkpoints import (
    FORMAT_VERSION,
    CheckpointInfo,
    checkpoint_path,
    checkpoints_of_run,
    find_checkpoint,
    load_checkpoint,
    load_tensors,
    save_checkpoint,
    save_tensors,
)
from pipeline.model.projector import Projector
from tests.refusals import flipped, refusal
from tests.unit.training.builders import PROJECTOR

INFO = CheckpointInfo(
    epoch=3,
    encoder={"name": "tiny", "width": 6, "revision": None},
    tokenizer={"digest": "abc", "instruction": "Describe."},
    language_model={"name": "llama", "weights": "def"},
    hidden_size=8,
    width_out=10,
    train={"learning_rate": 1e-3, "schedule": "constant"},
    training="fingerprint",
    features="123",
    tokens="456",
    longest_caption=49,
)
HUGE = replace(INFO, hidden_size=10**12)
TRAINING_STATE = {"format_version": FORMAT_VERSION, "epoch": 2}


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (
            {"source": "scenes", "name": "scenes", "images": 400},
            "Trained on 400 generated scenes of colored shapes; photographs are outside what it knows.",
        ),
        ({"source": "hub", "name": "Flickr8k", "images": 6000}, "Trained on 6,000 images of Flickr8k."),
        ({"source": "csv", "name": "my dogs", "images": 80}, "Trained on 80 images of the folder my dogs."),
        # A file from elsewhere: escape sequences do not reach a terminal.
        ({"source": "csv", "name": "a\x1b[2J", "images": 9}, "Trained on 9 images of the folder a[2J."),
        (None, "The checkpoint does not say what it was trained on."),
        ({"images": 1}, "The checkpoint does not say what it was trained on."),
        ([], "The checkpoint does not say what it was trained on."),
    ],
)
def test_a_checkpoint_says_what_it_was_trained_on(data: Any, sentence: str) -> None:
    assert replace(INFO, data=data).trained_on == sentence


def test_an_older_checkpoint_names_no_dataset(tmp_path: Path, projector: Projector) -> None:
    save_checkpoint(tmp_path / "new.safetensors", projector.state_dict(), INFO)
    tensors, metadata = load_tensors(tmp_path / "new.safetensors")
    del metadata["data"]
    save_tensors(tmp_path / "old.safetensors", tensors, metadata)
    assert load_checkpoint(tmp_path / "old.safetensors").info == INFO


@pytest.fixture(scope="module")
def projector() -> Projector:
    torch.manual_seed(0)
    return Projector(6, 8, 10, dropout=0.5).eval()


@pytest.fixture
def run(tmp_path: Path, projector: Projector) -> Path:
    """The checkpoints of a run of three epochs."""
    for epoch in (1, 2, 3):
        save_checkpoint(checkpoint_path(tmp_path, epoch), projector.state_dict(), replace(INFO, epoch=epoch))
    return tmp_path


def test_weights_and_provenance_come_back(run: Path, projector: Projector) -> None:
    checkpoints = list(checkpoints_of_run(run))
    assert [checkpoint.info for checkpoint in checkpoints] == [replace(INFO, epoch=n) for n in (1, 2, 3)]
    assert checkpoints[2].adapters == {}
    features = torch.randn(2, 4, 6)
    assert torch.equal(checkpoints[2].projector(features), projector(features))


def test_equal_content_gives_equal_bytes_and_nothing_is_pickled(run: Path, projector: Projector) -> None:
    """A safetensors file: the length of a JSON header, the header, the numbers."""
    content = checkpoint_path(run, 3).read_bytes()
    backwards = dict(reversed(projector.state_dict().items()))
    save_checkpoint(run / "b", backwards, replace(INFO, encoder=dict(reversed(INFO.encoder.items()))))
    assert (run / "b").read_bytes() == content
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert list(header["__metadata__"]) == ["vlm"]
    assert header.keys() - {"__metadata__"} == PROJECTOR
    assert len(content) == 8 + length + 4 * (6 * 8 + 8 + 8 * 10 + 10 + 6 + 1)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda *_: None, "does not exist"),
        (lambda path, weights: path.write_bytes(pickle.dumps(weights)), "is not a checkpoint"),
        (lambda path, weights: save_file(weights, path, {"vlm": "{"}), "is not a checkpoint"),
        (lambda path, weights: save_tensors(path, weights, TRAINING_STATE), "is not a checkpoint"),
        (lambda path, weights: save_tensors(path, weights, {"format_version": 0}), "format version is 0"),
        (lambda path, weights: save_checkpoint(path, {"mean": weights["mean"]}, INFO), "hidden.* None"),
        # A projector of that size would not fit in memory.
        (lambda path, weights: save_checkpoint(path, weights, HUGE), r"\(8,\), expected \(1000000000000,\)"),
    ],
)
def test_a_file_that_is_not_a_checkpoint_is_refused(
    tmp_path: Path, projector: Projector, write: Callable[[Path, dict[str, Tensor]], object], message: str
) -> None:
    write(tmp_path / "other.safetensors", projector.state_dict())
    assert "other.safetensors" in refusal(load_checkpoint, tmp_path / "other.safetensors", match=message)


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_no_bit_flips_unnoticed(
    tmp_path_factory: pytest.TempPathFactory, projector: Projector, place: float, bit: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "flipped.safetensors"
    save_checkpoint(path, projector.state_dict(), INFO)
    content = path.read_bytes()
    path.write_bytes(flipped(content, int(place * len(content)), bit))
    refusal(load_checkpoint, path, match=r"flipped\.safetensors")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": {**INFO.encoder, "revision": "abc"}}, r"encoder\.revision is 'abc', expected None"),
        ({"training": INFO.training, "epoch": 3}, r"epoch is 3, expected 2"),
    ],
)
def test_a_checkpoint_of_another_run_or_epoch_is_refused_with_the_value_that_differs(
    run: Path, projector: Projector, changes: dict[str, Any], message: str
) -> None:
    other = replace(INFO, **{"epoch": 2, "training": "other", **changes})
    save_checkpoint(checkpoint_path(run, 2), projector.state_dict(), other)
    refusal(list, checkpoints_of_run(run), match=rf"epoch_002\S+ is not epoch 2 .*: {message}")


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (["state.safetensors", "epoch_001.partial", "epoch_x.safetensors", "epoch_1.safetensors"], 1),
        ([f"epoch_{epoch:03d}.safetensors" for epoch in (1, 2, 4, 1000)], 3),
    ],
)
def test_the_first_epoch_without_checkpoint_is_named(tmp_path: Path, names: list[str], missing: int) -> None:
    for name in names:
        (tmp_path / name).touch()
    refusal(list, checkpoints_of_run(tmp_path), match=f"{tmp_path} has no checkpoint of epoch {missing}")


def test_a_folder_without_a_best_checkpoint_names_a_few_others(run: Path) -> None:
    for epoch in range(4, 8):
        checkpoint_path(run, epoch).touch()
    refusal(find_checkpoint, run, match=r"epoch_005\.safetensors and 2 more")
