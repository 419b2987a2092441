"""A folder for `vlm doctor` to examine."""

import os
from functools import partial
from pathlib import Path

import pytest

from tests.params_files import write_params
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


@pytest.fixture
def write(folder: Path) -> Write:
    """Writes params.yaml."""
    return partial(write_params, folder / "params.yaml")
