"""Folders in which `vlm` runs: an empty one, and a project with a checkpoint and photos."""

import os
from pathlib import Path

import pytest

from tests.pictures import noise


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
def photos(here: Path, tiny_checkpoint: Path) -> Path:
    """photos/1.png to 3.png in a project with a checkpoint, whose folder is the current one."""
    Path("data").symlink_to(tiny_checkpoint.parent)
    Path("photos").mkdir()
    for number in (1, 2, 3):
        noise(4, 3 + number).resize((60, 40)).save(f"photos/{number}.png")
    return here / "photos"
