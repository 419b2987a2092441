"""Model folders: digests of what a model follows from, and damage; hubs are in test_hub.py."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.files.safetensors_files import damaged_weights
from pipeline.pretrained.pretrained import resolve_model, tokenizer_digest, weights_digest

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
    with pytest.raises(PipelineError, match="/nothing"):
        resolve_model(str(tmp_path / "nothing"), None, None)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(PipelineError, match=r"no \.safetensors weights"):
        weights_digest(tmp_path)
    with pytest.raises(PipelineError, match="no tokenizer"):
        tokenizer_digest(tmp_path)
    (tmp_path / WEIGHTS).touch()
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(PipelineError, match=r"config\.json holds \[\]"):
        weights_digest(tmp_path)


def cut(file: Path, size: int) -> None:
    file.write_bytes(file.read_bytes()[:size])


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda f: cut(f, -7), r"it has \d+ bytes, its header says \d+"),
        (lambda f: f.write_bytes(f.read_bytes() + b"more"), r"it has \d+ bytes, its header says \d+"),
        (lambda f: cut(f, 100), r"\(100 bytes\)"),
        (lambda f: cut(f, 0), "header"),
        (lambda f: f.write_bytes(b"<!DOCTYPE html> no access"), "header"),
        (lambda f: f.write_bytes((2).to_bytes(8, "little") + b"[]"), "header"),
    ],
)
def test_damaged_weights_in_a_local_folder_are_named(
    tiny_llama: Path, tmp_path: Path, damage: Callable[[Path], None], fault: str
) -> None:
    file = tmp_path / WEIGHTS
    file.write_bytes((tiny_llama / WEIGHTS).read_bytes())
    assert resolve_model(str(tmp_path), None, None) == tmp_path
    damage(file)
    with pytest.raises(PipelineError, match=rf"model\.safetensors is damaged: .*{fault}"):
        resolve_model(str(tmp_path), None, None)


@pytest.mark.parametrize(
    ("index", "fault"),
    [
        ({"weight_map": {"a": PARTS[0], "b": PARTS[1]}}, {PARTS[1]: "is missing"}),
        ([], {INDEX: "is not a readable index"}),
        *(
            ({"weight_map": {"a": name}}, {INDEX: "is damaged: it names files outside its folder"})
            for name in ("/etc/hosts", "../secret.safetensors", ".", "a/b.safetensors")
        ),
    ],
)
@pytest.mark.parametrize("link", [False, True], ids=["", "a cache whose blobs are gone"])
def test_weights_that_an_index_names_are_complete_and_in_the_folder(
    tiny_llama: Path, tmp_path: Path, index: object, fault: dict[str, str], link: bool
) -> None:
    folder, outside = tmp_path / "model", tmp_path / "secret.safetensors"
    folder.mkdir()
    outside.write_bytes(b"untouched")
    (folder / PARTS[0]).write_bytes((tiny_llama / WEIGHTS).read_bytes())
    (folder / INDEX).write_text(json.dumps(index))
    if link:
        (folder / PARTS[1]).symlink_to(tmp_path / "gone")
        fault = {**fault, PARTS[1]: "is missing"}
    assert damaged_weights(folder) == fault
    assert outside.read_bytes() == b"untouched"
