"""vlm doctor on models: whether the hub, its cache or a folder gives them, and the shape of their features.

Run: .venv/bin/python -m pytest tests/unit/vlm/test_doctor_models.py
"""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from pipeline.params.schema import EncoderParams, Params
from pipeline.pretrained.wheels import wheel_folder
from tests.hub_stand_in import HubStandIn
from tests.refusals import fail_reads
from tests.unit.vlm.doctor_runner import Write, result
from vlm.checks import models

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def on_hub(params: Params, name: str, revision: str | None = None) -> Params:
    return replace(params, encoder=replace(params.encoder, name=name, revision=revision))


@pytest.fixture
def hub(tiny_llama: Path, local_hub: HubStandIn) -> HubStandIn:
    """A hub with a gated Llama at one commit, and a token that may not read it."""
    local_hub.tokens = {"hf_granted": {"org/llama"}, "hf_stranger": set()}
    local_hub.add("org/llama", tiny_llama, COMMIT, gated=True)
    return local_hub


def asked(write: Write, params: Params, name: str, revision: str | None = COMMIT) -> dict[str, Any]:
    write(on_hub(params, name, revision))
    return result("encoder")


@pytest.mark.parametrize(
    ("name", "revision", "token", "text"),
    [
        ("org/llama", COMMIT, "", "is gated. Fix: accept its license at https://huggingface.co/org/llama"),
        ("org/llama", COMMIT, "hf_stranger", "`hf auth whoami` names the account"),
        ("org/llama", COMMIT, "hf_wrong", "The hub does not accept your token"),
        ("org/llama", "f" * 40, "hf_granted", f"org/llama has no revision {'f' * 40}"),
        ("org/nobody", COMMIT, "hf_granted", "The hub knows no model org/nobody"),
        ("not/a/name", COMMIT, "hf_granted", "'not/a/name' is not a folder or a hub id"),
    ],
)
@pytest.mark.usefixtures("hub")
def test_what_the_hub_refuses_is_said_as_the_stages_say_it(
    write: Write,
    tiny_params: Params,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    revision: str,
    token: str,
    text: str,
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    found = asked(write, tiny_params, name, revision)
    assert found["level"] == "problem"
    assert text in found["text"]
    assert "a local folder as encoder.name in params.yaml" in found["remedy"]


@pytest.mark.parametrize(
    ("status", "text"),
    [(429, "The hub allows no more requests for now"), (503, "cannot serve org/llama at present")],
)
def test_a_hub_that_cannot_answer_now_is_no_missing_model(
    hub: HubStandIn, write: Write, tiny_params: Params, status: int, text: str
) -> None:
    hub.failing, hub.status = 1000, status
    found = asked(write, tiny_params, "org/llama")
    assert found["level"] == "problem"
    assert text in found["text"]


def test_without_a_network_the_command_is_named_that_fetches_the_model(
    hub: HubStandIn, write: Write, tiny_params: Params
) -> None:
    hub.stop()
    found = asked(write, tiny_params, "org/llama")
    assert found["level"] == "problem"
    assert "the hub cannot be reached (ConnectError)" in found["text"]
    assert "run `hf download org/llama" in found["text"]


def test_a_model_within_reach_is_measured_and_not_downloaded(
    hub: HubStandIn, write: Write, tiny_params: Params, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_granted")
    found = asked(write, tiny_params, "org/llama")
    assert (found["level"], found["text"]) == (
        "ok", "org/llama is within reach, 0.00 GB to download on first use",
    )  # fmt: skip
    assert not hub.transfers("model.safetensors")
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_a_revision_without_safetensors_is_a_problem(
    hub: HubStandIn, write: Write, tiny_params: Params, tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    for name in ("pytorch_model.bin", "config.json"):
        (repository / name).write_text("{}")
    hub.add("org/other", repository, COMMIT)
    found = asked(write, tiny_params, "org/other", None)
    assert found["level"] == "problem"
    assert "org/other has no .safetensors weights at main" in found["text"]


def test_offline_a_model_that_is_not_cached_is_a_problem(write: Write, tiny_params: Params) -> None:
    write(on_hub(tiny_params, "org/model"))
    found = result("encoder")
    assert found["level"] == "problem"
    assert "HF_HUB_OFFLINE is set" in found["text"]


def test_a_cached_model_is_enough_and_half_of_one_is_not(
    write: Write, tiny_params: Params, tiny_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = tmp_path / "hub" / "models--org--model"
    snapshot = cached / "snapshots" / "abc"
    shutil.copytree(tiny_clip, snapshot)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    write(on_hub(tiny_params, "org/model"))
    assert result("encoder")["text"] == "org/model is in the hub's cache"
    whole = (snapshot / "model.safetensors").read_bytes()
    (snapshot / "model.safetensors").write_bytes(whole[:-100])
    assert result("encoder")["level"] == "problem"
    (snapshot / "model.safetensors").unlink()
    assert result("encoder")["level"] == "problem"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("./nowhere", "there is no model folder ./nowhere"),
        ("wheel:nobody", "There is no model wheel:nobody"),
        ("wheel:smollm2-135m", "wheel:smollm2-135m cannot be the image encoder"),
        ("empty", "empty is a local folder, but holds not config.json"),
    ],
)
def test_a_local_model_that_is_none_is_a_problem(
    folder: Path, write: Write, tiny_params: Params, name: str, text: str
) -> None:
    (folder / "empty").mkdir()
    write(on_hub(tiny_params, name))
    found = result("encoder")
    assert found["level"] == "problem"
    assert text in found["text"]
    assert found["remedy"]


def test_truncated_weights_are_a_problem(
    folder: Path, write: Write, tiny_params: Params, tiny_clip: Path
) -> None:
    clip = shutil.copytree(tiny_clip, folder / "clip")
    write(on_hub(tiny_params, "clip"))
    assert result("encoder")["level"] == "ok"
    weights = clip / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    found = result("encoder")
    assert found["level"] == "problem"
    assert "clip is a local folder, but model.safetensors is damaged" in found["text"]
    weights.unlink()
    assert "holds no .safetensors weights" in result("encoder")["text"]


def test_a_wheels_folder_that_is_cut_off_is_not_called_unpacked(
    write: Write, tiny_params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = replace(tiny_params.runtime, model_cache=tmp_path / "cache")
    write(on_hub(replace(tiny_params, runtime=runtime), "wheel:efficientnet-lite0"))
    folder = wheel_folder("wheel:efficientnet-lite0", "image encoder", tmp_path / "cache")
    folder.mkdir(parents=True)
    (folder / "source.json").write_text('{"sizes": {"model.safetensors": 9}}')
    (folder / "model.safetensors").write_bytes(b"truncated")
    assert "is unpacked in" in result("encoder")["text"]
    (folder / "model.safetensors").write_bytes(b"trunc")
    assert "is unpacked in" not in result("encoder")["text"]
    fail_reads(monkeypatch, folder)
    assert "Input/output error" in result("encoder")["text"]


@pytest.mark.parametrize(
    ("name", "tokens", "grid", "shape"),
    [
        ("openai/clip-vit-base-patch32", "patches", None, (49, 768)),
        ("openai/clip-vit-base-patch32", "cls+patches", None, (50, 768)),
        ("folder/clip-vit-large-patch14-336", "patches", None, (576, 1024)),
        ("wheel:efficientnet-lite0", "patches", 4, (16, 1344)),
        ("wheel:efficientnet-lite0", "mean", None, (1, 1344)),
        ("org/other", "cls", None, None),
    ],
)
def test_the_shape_of_features_follows_from_the_encoders_name(
    name: str, tokens: Any, grid: int | None, shape: tuple[int, int] | None
) -> None:
    assert models.feature_shape(EncoderParams(name, None, -2, tokens, grid)) == shape
