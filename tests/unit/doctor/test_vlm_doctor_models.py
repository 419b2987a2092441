"""vlm doctor on models: whether the hub, its cache or a folder gives them.

Run: .venv/bin/python -m pytest tests/unit/doctor/test_vlm_doctor_models.py
"""

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from pipeline.params import Params
from tests.doctor_lab import Write, findings
from vlm.checks import models


def on_hub(params: Params, name: str, revision: str | None = None) -> Params:
    return replace(params, encoder=replace(params.encoder, name=name, revision=revision))


def refusing(kind: type[Exception]) -> Callable[..., NoReturn]:
    def refuse(*_: object, **__: object) -> NoReturn:
        # Its own constructor wants a response of whichever HTTP library the hub's client rests on.
        raise kind.__new__(kind)

    return refuse


@pytest.mark.parametrize(
    ("kind", "text", "remedy"),
    [
        (GatedRepoError, "is gated", "accept its licence at https://huggingface.co/org/model"),
        (RepositoryNotFoundError, "knows no model org/model", "check the name"),
        (RevisionNotFoundError, "org/model has no revision abc", "commits/main"),
        (
            TimeoutError,
            "cannot be reached (TimeoutError)",
            "`hf download org/model --revision abc`",
        ),
    ],
)
def test_a_model_that_the_hub_does_not_give_has_its_remedy(
    write: Write,
    tiny_params: Params,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[Exception],
    text: str,
    remedy: str,
) -> None:
    write(on_hub(tiny_params, "org/model", "abc"))
    monkeypatch.setattr("vlm.checks.models.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(models, "get_hf_file_metadata", refusing(kind))
    found = findings()["encoder"]
    assert found["level"] == "problem"
    assert text in found["text"]
    assert remedy in found["remedy"]


def test_a_model_within_reach_is_asked_for_once_and_not_downloaded(
    write: Write, tiny_params: Params, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []

    def metadata(url: str, timeout: float) -> None:
        asked.append((url, timeout))

    write(on_hub(tiny_params, "org/model"))
    monkeypatch.setattr("vlm.checks.models.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(models, "get_hf_file_metadata", metadata)
    assert "within reach, and downloaded on first use" in findings()["encoder"]["text"]
    assert asked == [("https://huggingface.co/org/model/resolve/main/config.json", 5.0)]
    assert not (tmp_path / "hub").exists()


def test_offline_a_model_that_is_not_cached_is_a_problem(write: Write, tiny_params: Params) -> None:
    write(on_hub(tiny_params, "org/model"))
    found = findings()["encoder"]
    assert found["level"] == "problem"
    assert "HF_HUB_OFFLINE forbids" in found["text"]


def test_a_cached_model_is_enough_and_half_of_one_is_not(
    write: Write, tiny_params: Params, tiny_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = tmp_path / "hub" / "models--org--model"
    snapshot = cached / "snapshots" / "abc"
    shutil.copytree(tiny_clip, snapshot)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    lookup = partial(try_to_load_from_cache, cache_dir=str(tmp_path / "hub"))
    monkeypatch.setattr(models, "try_to_load_from_cache", lookup)
    write(on_hub(tiny_params, "org/model"))
    assert findings()["encoder"]["text"] == "org/model is in the hub's cache"
    whole = (snapshot / "model.safetensors").read_bytes()
    (snapshot / "model.safetensors").write_bytes(whole[:-100])
    assert findings()["encoder"]["level"] == "problem"
    (snapshot / "model.safetensors").unlink()
    assert findings()["encoder"]["level"] == "problem"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("./nowhere", "there is no model folder ./nowhere"),
        ("wheel:nobody", "there is no model wheel:nobody"),
        ("empty", "empty is a local folder, but holds not config.json"),
    ],
)
def test_a_local_model_that_is_none_is_a_problem(
    folder: Path, write: Write, tiny_params: Params, name: str, text: str
) -> None:
    (folder / "empty").mkdir()
    write(on_hub(tiny_params, name))
    found = findings()["encoder"]
    assert (found["level"], found["text"]) == ("problem", text)
    assert found["remedy"]


def test_truncated_weights_are_a_problem(
    folder: Path, write: Write, tiny_params: Params, tiny_clip: Path
) -> None:
    clip = shutil.copytree(tiny_clip, folder / "clip")
    write(on_hub(tiny_params, "clip"))
    assert findings()["encoder"]["level"] == "ok"
    weights = clip / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    found = findings()["encoder"]
    assert found["level"] == "problem"
    assert "clip is a local folder, but model.safetensors is damaged" in found["text"]
    weights.unlink()
    assert "holds no .safetensors weights" in findings()["encoder"]["text"]
