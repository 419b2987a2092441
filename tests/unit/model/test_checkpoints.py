"""Checkpoints: what is loaded is what was saved, equal bytes, no pickle, every damage a sentence.

Run: .venv/bin/python -m pytest tests/unit/model/test_checkpoints.py
"""

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from pipeline.errors import PipelineError
from pipeline.model.checkpoints import (
    FORMAT_VERSION,
    CheckpointInfo,
    checkpoint_path,
    checkpoints_of_run,
    list_checkpoints,
    load_checkpoint,
    load_tensors,
    save_checkpoint,
    save_tensors,
    tensor_digest,
)
from pipeline.model.projector import Projector

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


def test_weights_are_float32(saved: Path) -> None:
    assert {value.dtype for value in load_tensors(saved)[0].values()} == {torch.float32}


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
    assert header.keys() - {"__metadata__"} == {
        "hidden.weight",
        "hidden.bias",
        "output.weight",
        "output.bias",
        "mean",
        "scale",
    }
    assert len(content) == 8 + length + 4 * (6 * 8 + 8 + 8 * 10 + 10 + 6 + 1)


def test_a_pickle_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "epoch_001.safetensors"
    path.write_bytes(pickle.dumps({"hidden.weight": [1.0]}))
    with pytest.raises(PipelineError, match=r"epoch_001\.safetensors is no checkpoint of this project"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("changes", "shape"),
    [
        ({"hidden_size": 9}, r"\(9, 6\)"),
        ({"width_out": 11}, r"\(11, 8\)"),
        ({"encoder": {"width": 7}}, r"\(8, 7\)"),
    ],
)
def test_weights_of_other_shapes_than_the_facts_say_are_refused(
    tmp_path: Path, projector: Projector, changes: dict[str, object], shape: str
) -> None:
    path = tmp_path / "epoch_001.safetensors"
    save_checkpoint(path, projector.state_dict(), replace(INFO, **changes))  # type: ignore[arg-type]
    with pytest.raises(PipelineError, match=rf"holds tensors .*\(8, 6\).*, but its facts call for .*{shape}"):
        load_checkpoint(path)


def test_a_missing_tensor_is_refused(tmp_path: Path, projector: Projector) -> None:
    weights = projector.state_dict()
    del weights["output.bias"]
    path = tmp_path / "epoch_001.safetensors"
    save_checkpoint(path, weights, INFO)
    with pytest.raises(PipelineError, match=r"epoch_001\.safetensors holds tensors"):
        load_checkpoint(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"vlm": "{"}])
def test_foreign_safetensors_are_refused(
    tmp_path: Path, projector: Projector, metadata: dict[str, str] | None
) -> None:
    path = tmp_path / "model.safetensors"
    save_file(projector.state_dict(), path, metadata)
    with pytest.raises(PipelineError, match=r"model\.safetensors is no checkpoint of this project or is"):
        load_checkpoint(path)


def test_a_resume_state_is_no_checkpoint(tmp_path: Path, projector: Projector) -> None:
    path = tmp_path / "state.safetensors"
    save_tensors(path, projector.state_dict(), {"format_version": FORMAT_VERSION, "epoch": 2, "step": 5})
    with pytest.raises(PipelineError, match=r"state\.safetensors is no checkpoint of this project"):
        load_checkpoint(path)


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused(saved: Path, share: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(PipelineError, match=r"epoch_003\.safetensors is no checkpoint .* or is damaged"):
        load_checkpoint(saved)


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


def test_facts_that_call_for_more_than_there_is_take_no_memory(tmp_path: Path, projector: Projector) -> None:
    path = tmp_path / "epoch_001.safetensors"
    save_checkpoint(path, projector.state_dict(), replace(INFO, hidden_size=10**12))
    with pytest.raises(PipelineError, match="its facts call for"):
        load_checkpoint(path)


@pytest.fixture
def run(tmp_path: Path, projector: Projector) -> Path:
    """The checkpoints of a run of three epochs."""
    for epoch in (1, 2, 3):
        save_checkpoint(checkpoint_path(tmp_path, epoch), projector.state_dict(), replace(INFO, epoch=epoch))
    return tmp_path


def test_the_checkpoints_of_a_run_are_its_epochs(run: Path) -> None:
    assert checkpoints_of_run(run) == {epoch: checkpoint_path(run, epoch) for epoch in (1, 2, 3)}


def test_a_missing_epoch_is_named(run: Path) -> None:
    checkpoint_path(run, 2).unlink()
    with pytest.raises(PipelineError, match=r"lacks the checkpoint of epoch 2; run `dvc repro train`"):
        checkpoints_of_run(run)


def test_a_checkpoint_under_another_epochs_name_is_refused(run: Path) -> None:
    checkpoint_path(run, 3).replace(checkpoint_path(run, 2))
    with pytest.raises(PipelineError, match=r"epoch_002\.safetensors holds epoch 3, not 2; run `dvc repro"):
        checkpoints_of_run(run)


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
        checkpoints_of_run(run)


def test_another_format_version_is_refused(tmp_path: Path, saved: Path) -> None:
    tensors, facts = load_tensors(saved)
    save_tensors(tmp_path / "old.safetensors", tensors, {**facts, "format_version": 0})
    with pytest.raises(PipelineError, match=r"old\.safetensors has another format version; train anew"):
        load_checkpoint(tmp_path / "old.safetensors")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"none\.safetensors does not exist; run `dvc repro`"):
        load_checkpoint(tmp_path / "none.safetensors")


def test_checkpoints_are_listed_by_epoch_and_nothing_else_is(tmp_path: Path) -> None:
    epochs = [1000, 2, 10, 1, 999]
    for epoch in epochs:
        checkpoint_path(tmp_path, epoch).touch()
    for other in ("state.safetensors", "epoch_003.partial", "epoch_x.safetensors", "epoch_4.safetensors"):
        (tmp_path / other).touch()
    assert checkpoint_path(tmp_path, 2).name == "epoch_002.safetensors"
    assert list_checkpoints(tmp_path) == [
        (epoch, checkpoint_path(tmp_path, epoch)) for epoch in sorted(epochs)
    ]


def test_a_folder_without_checkpoints_is_named(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(PipelineError, match=r"holds no checkpoints; run `dvc repro train`"):
            list_checkpoints(folder)


def test_the_digest_of_tensors_covers_names_shapes_and_values() -> None:
    tensors = {"a": torch.arange(6.0), "b": torch.zeros(2)}
    known = tensor_digest(tensors)
    assert tensor_digest(dict(reversed(tensors.items()))) == known
    assert tensor_digest({**tensors, "a": torch.arange(6.0).reshape(2, 3)}) != known
    assert tensor_digest({"c": tensors["a"], "b": tensors["b"]}) != known
    assert tensor_digest({**tensors, "b": torch.tensor([0, 1e-9])}) != known
