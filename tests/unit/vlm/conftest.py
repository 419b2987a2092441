"""A folder for `vlm doctor` to examine."""

import os
from dataclasses import asdict
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.params.schema import Params
from tests.unit.vlm.doctor_runner import Write


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: empty, in no git repository, and with an empty cache of the hub."""
    here = tmp_path / "project"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return here


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(of) for key, of in value.items()}
    return [_plain(of) for of in value] if isinstance(value, tuple) else value


@pytest.fixture
def write(folder: Path) -> Write:
    """Writes params.yaml."""

    def write_params(params: Params) -> None:
        with (folder / "params.yaml").open("w", encoding="utf-8") as file:
            YAML().dump(_plain(asdict(params)), file)

    return write_params
