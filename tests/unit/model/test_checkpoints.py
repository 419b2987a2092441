"""Checkpoints: what is loaded is what was saved, equal bytes, no pickle, every damage a sentence.

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

from pipeline.errors import PipelineError
from pipeline.model.checkpoints import (
    FORMAT_VERSION,
    CheckpointInfo,
    checkpoint_path,
    checkpoints_of_run,
    find_checkpoint,
    load_checkpoint,
    save_checkpoint,
    save_tensors,
    tensor_digest,
)
from pipeline.model.projector import Projector
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

VERSION = {"format_version": FORMAT_VERSION}


@pytest.fixture
def projector() -> Projector:
    torch.manual_seed(0)
    return Projector(6, 8, 10, dropout=0.5)


@pytest.fixture
def saved(tmp_path: Path, projector: Projector) -> Path:
    path = tmp_path / "epoch_003.safetensors"
    save_checkpoint(path, projector.state_dict(), INFO)
    return path


def test_weights_and_facts_come_back(saved: Path, projector: Projector) -> None:
    loaded = load_checkpoint(saved)
    assert loaded.info == INFO
    assert loaded.adapters == {}
    assert not loaded.projector.training
    features = torch.randn(2, 4, 6)
    assert torch.equal(loaded.projector(features), projector.eval()(features))


def test_equal_content_gives_equal_bytes(tmp_path: Path, saved: Path, projector: Projector) -> None:
    again = tmp_path / "again" / "other.safetensors"
    backwards = dict(reversed(projector.state_dict().items()))
    save_checkpoint(again, backwards, replace(INFO, encoder=dict(reversed(INFO.encoder.items()))))
    assert again.read_bytes() == saved.read_bytes()


def test_nothing_is_pickled(saved: Path) -> None:
    """A safetensors file: the length of a JSON header, the header, the numbers."""
    content = saved.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert list(header["__metadata__"]) == ["vlm"]
    assert header.keys() - {"__metadata__"} == PROJECTOR
    assert len(content) == 8 + length + 4 * (6 * 8 + 8 + 8 * 10 + 10 + 6 + 1)


@pytest.mark.parametrize(
    ("changes", "shape"),
    [
        ({"hidden_size": 9}, r"\(9, 6\)"),
        ({"width_out": 11}, r"\(11, 8\)"),
        ({"encoder": {"width": 7}}, r"\(8, 7\)"),
        # More than there is memory for, none of which may be taken.
        ({"hidden_size": 10**12}, r"\(1000000000000, 6\)"),
    ],
)
def test_weights_of_other_shapes_than_the_facts_say_are_refused(
    tmp_path: Path, projector: Projector, changes: dict[str, Any], shape: str
) -> None:
    path = tmp_path / "epoch_001.safetensors"
    save_checkpoint(path, projector.state_dict(), replace(INFO, **changes))
    with pytest.raises(PipelineError, match=rf"epoch_001\.safetensors .*\(8, 6\).* call for .*{shape}"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda *_: None, "does not exist. Fix: run `dvc repro`"),
        (lambda path, weights: path.write_bytes(pickle.dumps(weights)), "is no checkpoint"),
        (lambda path, weights: save_file(weights, path), "is no checkpoint"),
        (lambda path, weights: save_file(weights, path, {"format": "pt"}), "is no checkpoint"),
        (lambda path, weights: save_file(weights, path, {"vlm": "{"}), "is no checkpoint"),
        # A training state.
        (lambda path, weights: save_tensors(path, weights, {**VERSION, "epoch": 2}), "is no checkpoint"),
        (lambda path, weights: save_checkpoint(path, {"mean": weights["mean"]}, INFO), "holds tensors"),
        (lambda path, weights: save_tensors(path, weights, {"format_version": 0}), "has another format"),
    ],
)
def test_what_is_no_checkpoint_is_refused_by_name(
    tmp_path: Path, projector: Projector, write: Callable[[Path, dict[str, Tensor]], object], message: str
) -> None:
    path = tmp_path / "other.safetensors"
    write(path, projector.state_dict())
    with pytest.raises(PipelineError, match=rf"other\.safetensors {message}"):
        load_checkpoint(path)


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_no_bit_can_flip_unnoticed(tmp_path_factory: pytest.TempPathFactory, place: float, bit: int) -> None:
    path = tmp_path_factory.getbasetemp() / "flipped.safetensors"
    torch.manual_seed(0)
    projector = Projector(6, 8, 10)
    save_checkpoint(path, projector.state_dict(), INFO)
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    path.write_bytes(content)
    with pytest.raises(PipelineError, match=r"flipped\.safetensors "):
        load_checkpoint(path)


@pytest.fixture
def run(tmp_path: Path, projector: Projector) -> Path:
    """The checkpoints of a run of three epochs."""
    for epoch in (1, 2, 3):
        save_checkpoint(checkpoint_path(tmp_path, epoch), projector.state_dict(), replace(INFO, epoch=epoch))
    return tmp_path


def test_the_checkpoints_of_a_run_are_its_epochs(run: Path) -> None:
    assert [one.info.epoch for one in checkpoints_of_run(run)] == [1, 2, 3]
    checkpoint_path(run, 2).unlink()
    with pytest.raises(PipelineError, match=r"lacks the checkpoint of epoch 2"):
        list(checkpoints_of_run(run))
    checkpoint_path(run, 3).replace(checkpoint_path(run, 2))
    with pytest.raises(PipelineError, match=r"epoch_002\.safetensors holds epoch 3, not 2"):
        list(checkpoints_of_run(run))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train": {**INFO.train, "learning_rate": 2e-3}}, r"its train\.learning_rate is 0\.002, not 0\.001"),
        ({"encoder": {**INFO.encoder, "revision": "abc"}}, r"its encoder\.revision is 'abc', not None"),
        ({"features": "124"}, r"its features is '124', not '123'"),
        ({"tokens": "457"}, r"its tokens is '457', not '456'"),
        ({"training": "other"}, r"its training is 'other', not 'fingerprint'"),
    ],
)
def test_a_checkpoint_of_another_run_is_named_by_the_fact_that_differs(
    run: Path, projector: Projector, changes: dict[str, Any], said: str
) -> None:
    other = replace(INFO, **{"epoch": 2, "training": "other", **changes})
    save_checkpoint(checkpoint_path(run, 2), projector.state_dict(), other)
    with pytest.raises(PipelineError, match=rf"epoch_002\S+ comes from another training run .*: {said}"):
        list(checkpoints_of_run(run))


def test_a_run_without_checkpoints_is_refused_and_other_files_are_none(tmp_path: Path) -> None:
    for other in ("state.safetensors", "epoch_003.partial", "epoch_x.safetensors", "epoch_4.safetensors"):
        (tmp_path / other).touch()
    for empty in (tmp_path, tmp_path / "none"):
        with pytest.raises(PipelineError, match=f"{empty} holds no checkpoints"):
            list(checkpoints_of_run(empty))


def test_a_run_may_have_a_thousand_epochs(tmp_path: Path) -> None:
    for epoch in set(range(1, 1001)) - {500}:
        checkpoint_path(tmp_path, epoch).touch()
    with pytest.raises(PipelineError, match="lacks the checkpoint of epoch 500"):
        list(checkpoints_of_run(tmp_path))


def test_a_folder_of_many_checkpoints_says_that_there_are_more(run: Path) -> None:
    for epoch in range(4, 8):
        checkpoint_path(run, epoch).touch()
    with pytest.raises(PipelineError, match=r"epoch_005\.safetensors and 2 more"):
        find_checkpoint(run)


def test_the_digest_of_tensors_covers_names_shapes_and_values() -> None:
    tensors = {"a": torch.arange(6.0), "b": torch.zeros(2)}
    known = tensor_digest(tensors)
    assert tensor_digest(dict(reversed(tensors.items()))) == known
    assert tensor_digest({**tensors, "a": torch.arange(6.0).reshape(2, 3)}) != known
    assert tensor_digest({"c": tensors["a"], "b": tensors["b"]}) != known
    assert tensor_digest({**tensors, "b": torch.tensor([0, 1e-9])}) != known
