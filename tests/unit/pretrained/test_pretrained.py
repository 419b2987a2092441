"""Model folders: digests of what a model follows from, and damage; hubs are in test_hub.py."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.files.safetensors_files import damaged_weights
from pipeline.pretrained.pretrained import resolve_model, tokenizer_digest, weights_digest


def test_a_missing_folder_is_not_asked_of_the_hub(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="there is no model folder"):
        resolve_model(str(tmp_path / "nothing"), None, None)


def test_digests_change_with_the_files(tiny_llama: Path, tmp_path: Path) -> None:
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_bytes((tiny_llama / name).read_bytes())
    weights, tokenizer = weights_digest(tmp_path), tokenizer_digest(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"other")
    (tmp_path / "tokenizer.json").write_bytes(b"other")
    assert weights_digest(tmp_path) != weights
    assert tokenizer_digest(tmp_path) != tokenizer


def test_equal_weights_of_another_architecture_are_another_model(tiny_llama: Path, tmp_path: Path) -> None:
    """The number of heads changes the result and no weight."""
    (tmp_path / "model.safetensors").write_bytes((tiny_llama / "model.safetensors").read_bytes())
    digests = {weights_digest(tmp_path)}
    for heads in (2, 4):
        (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": heads}))
        digests.add(weights_digest(tmp_path))
    assert len(digests) == 3
    written_by = {"num_attention_heads": 4, "transformers_version": "9.9", "_name_or_path": "elsewhere"}
    (tmp_path / "config.json").write_text(json.dumps(written_by))
    assert weights_digest(tmp_path) in digests
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(PipelineError, match=r"config\.json holds \[\], expected an object"):
        weights_digest(tmp_path)


def test_pickled_weights_and_missing_tokenizers_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(PipelineError, match=r"no \.safetensors weights"):
        weights_digest(tmp_path)
    with pytest.raises(PipelineError, match="no tokenizer"):
        tokenizer_digest(tmp_path)


def cut(file: Path, size: int) -> None:
    file.write_bytes(file.read_bytes()[:size])


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda f: cut(f, -7), r"it has \d+ bytes, its header says \d+"),
        (lambda f: f.write_bytes(f.read_bytes() + b"more"), r"it has \d+ bytes, its header says \d+"),
        (lambda f: cut(f, 100), r"cut off in its header \(100 bytes\)"),
        (lambda f: cut(f, 0), "header is not that of a safetensors file"),
        (lambda f: f.write_bytes(b"<!DOCTYPE html> no access"), "cut off in its header"),
        (lambda f: f.write_bytes((2).to_bytes(8, "little") + b"[]"), "header is not that of a safetensors"),
    ],
)
def test_damaged_weights_in_a_local_folder_are_named(
    tiny_llama: Path, tmp_path: Path, damage: Callable[[Path], None], fault: str
) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes((tiny_llama / "model.safetensors").read_bytes())
    assert resolve_model(str(tmp_path), None, None) == tmp_path
    damage(file)
    with pytest.raises(PipelineError, match=rf"model\.safetensors is damaged: .*{fault}.*; copy the folder"):
        resolve_model(str(tmp_path), None, None)


def test_a_missing_part_of_the_weights_is_named(tiny_llama: Path, tmp_path: Path) -> None:
    parts = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    index = {"weight_map": {"a": parts[0], "b": parts[1]}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / parts[0]).write_bytes((tiny_llama / "model.safetensors").read_bytes())
    with pytest.raises(PipelineError, match=r"model-00002-of-00002\.safetensors is missing; copy the folder"):
        resolve_model(str(tmp_path), None, None)
    # As a cache looks whose blobs are gone.
    (tmp_path / parts[1]).symlink_to(tmp_path / "gone")
    with pytest.raises(PipelineError, match=r"model-00002-of-00002\.safetensors is missing; copy the folder"):
        resolve_model(str(tmp_path), None, None)
    (tmp_path / parts[1]).unlink()
    (tmp_path / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(PipelineError, match=r"index\.json is not a readable index"):
        resolve_model(str(tmp_path), None, None)


@pytest.mark.parametrize("name", ["/etc/hosts", "../secret.safetensors", ".", "a/b.safetensors"])
def test_an_index_that_names_files_elsewhere_is_damaged_and_nothing_there_is_touched(
    tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    outside = tmp_path / "secret.safetensors"
    outside.write_bytes(b"kept")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"layer.weight": name}}))
    assert damaged_weights(folder) == {index.name: "is damaged: it names files outside its folder"}
    assert outside.read_bytes() == b"kept"
