"""Bad input ends in one sentence that names it, exit code 1, no traceback, and earlier outputs intact."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from ruamel.yaml import YAML

from pipeline.params.schema import Limits, Params
from tests.e2e.conftest import Project, make_project
from tests.tiny_models import save_clip, save_llama


def write_dataset(root: Path) -> None:
    """Six images with two captions each, as captions.jsonl."""
    root.mkdir()
    rows = []
    for number, split in enumerate(["train"] * 4 + ["dev", "test"]):
        name = f"{number}.png"
        Image.new("RGB", (40, 30), (number * 40, 90, 200)).save(root / name)
        rows.append({"image": name, "captions": ["A plain picture.", "One colour."], "split": split})
    (root / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def with_dataset(tmp_path: Path, tiny_params: Params) -> Project:
    """A project on a small dataset of its own, prepared."""
    write_dataset(tmp_path / "photos")
    data = replace(
        tiny_params.data,
        source="jsonl",
        root=str(tmp_path / "photos"),
        limits=Limits(None, None, None),
        max_megapixels=1.0,
    )
    project = make_project(tmp_path / "project", replace(tiny_params, data=data))
    project.stage("prepare")
    return project


def set_param(project: Project, section: str, key: str, value: object) -> None:
    path = project.folder / "params.yaml"
    yaml = YAML()
    params = yaml.load(path.read_text())
    params[section][key] = value
    with path.open("w") as file:
        yaml.dump(params, file)


def replace_caption_line(root: Path, change: Callable[[dict[str, object]], object]) -> None:
    lines = (root / "captions.jsonl").read_text().splitlines()
    row = change(json.loads(lines[1]))
    lines[1] = row if isinstance(row, str) else json.dumps(row)
    (root / "captions.jsonl").write_text("\n".join(lines) + "\n")


BAD_DATASETS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "missing dataset": (lambda root: shutil.rmtree(root), ["photos"]),
    "image listed but absent": (lambda root: (root / "1.png").unlink(), ["1.png"]),
    "empty file": (lambda root: (root / "1.png").write_bytes(b""), ["1.png", "empty"]),
    "not an image": (lambda root: (root / "1.png").write_text("hello" * 50), ["1.png"]),
    "truncated image": (
        lambda root: (root / "1.png").write_bytes((root / "2.png").read_bytes()[:60]),
        ["1.png"],
    ),
    "too many pixels": (
        lambda root: Image.new("1", (3000, 3000)).save(root / "1.png"),
        ["1.png", "max_megapixels"],
    ),
    "malformed line": (lambda root: replace_caption_line(root, lambda _: "{oops"), ["captions.jsonl:2"]),
    "no captions": (
        lambda root: replace_caption_line(root, lambda row: {**row, "captions": []}),
        ["captions.jsonl:2", "no caption"],
    ),
    "id outside the folder": (
        lambda root: replace_caption_line(root, lambda row: {**row, "image": "../x.jpg"}),
        ["../x.jpg"],
    ),
}


@pytest.mark.parametrize("case", BAD_DATASETS)
def test_a_bad_dataset_is_named_and_the_earlier_lists_stay(with_dataset: Project, case: str) -> None:
    spoil, named = BAD_DATASETS[case]
    before = (with_dataset.folder / "data/captions.jsonl").read_bytes()
    spoil(with_dataset.folder.parent / "photos")
    printed = with_dataset.stage("prepare", code=1)
    assert "Traceback" not in printed
    error = printed[printed.index("Error: ") :]
    for word in named:
        assert word in error
    assert (with_dataset.folder / "data/captions.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("section", "key", "value", "named"),
    [
        ("train", "learning_rte", 0.1, ["unknown key train.learning_rte", "learning_rate"]),
        ("train", "epochs", "three", ["train.epochs", "'three'", "a whole number"]),
        ("data", "source", "coco", ["data.source", "'coco'", "karpathy"]),
        ("generate", "beams", 0, ["generate.beams", "0", "1 (greedy) to 32"]),
    ],
)
def test_a_bad_parameter_is_named(
    project: Project, section: str, key: str, value: object, named: list[str]
) -> None:
    set_param(project, section, key, value)
    printed = project.stage("prepare", code=1)
    assert "Traceback" not in printed
    for word in named:
        assert word in printed


def test_models_that_do_not_belong_together_are_named(with_dataset: Project) -> None:
    """One project, its files exchanged one after the other."""
    project, models = with_dataset, with_dataset.folder.parent
    project.stage("encode")
    project.stage("tokenize")

    # Tokens of another tokenizer.
    set_param(project, "language_model", "name", str(save_llama(models / "other-llama", seed=5)))
    printed = project.stage("train", code=1)
    assert "tokenizer name" in printed
    assert "dvc repro tokenize" in printed
    project.stage("tokenize")
    project.stage("train")

    # Features of another encoder than the checkpoints'.
    set_param(project, "encoder", "layer", -1)
    project.stage("encode")
    printed = project.stage("evaluate", code=1)
    assert "Traceback" not in printed
    assert "encoder layer" in printed

    # A checkpoint of another shape.
    set_param(project, "encoder", "layer", -2)
    project.stage("encode")
    checkpoint = project.folder / "data/checkpoints/epoch_001.safetensors"
    content = bytearray(checkpoint.read_bytes())
    checkpoint.write_bytes(bytes(content).replace(b'hidden_size\\": 32', b'hidden_size\\": 64'))
    printed = project.stage("evaluate", code=1)
    assert "Traceback" not in printed
    assert "epoch_001.safetensors" in printed


def test_a_model_that_cannot_be_had_is_named_with_what_to_do(with_dataset: Project) -> None:
    set_param(with_dataset, "encoder", "name", "some-org/some-model")
    printed = with_dataset.stage("encode", code=1)
    assert "Traceback" not in printed
    assert "some-org/some-model" in printed
    assert "local folder" in printed


def test_a_pickled_model_is_refused(with_dataset: Project) -> None:
    folder = save_clip(with_dataset.folder.parent / "pickled")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    set_param(with_dataset, "encoder", "name", str(folder))
    printed = with_dataset.stage("encode", code=1)
    assert "Traceback" not in printed
    assert "safetensors" in printed
