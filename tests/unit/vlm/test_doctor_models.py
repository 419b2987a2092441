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
from tests.hub_stand_in import HubStandIn
from vlm.checks import models
from vlm.doctor import CheckResult

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tiny_llama: Path, local_hub: HubStandIn) -> HubStandIn:
    """A hub with a gated Llama at one commit, and a token that may read it."""
    local_hub.tokens = {"hf_granted": {"org/llama"}}
    local_hub.add("org/llama", tiny_llama, COMMIT, gated=True)
    return local_hub


def check(params: Params, name: str, revision: str | None = COMMIT, topic: str = "encoder") -> CheckResult:
    params = replace(params, encoder=replace(params.encoder, name=name, revision=revision))
    return next(result for result in models.check_models(params) if result.topic == topic)


@pytest.mark.parametrize(
    ("name", "token", "text"),
    [("org/llama", "", "https://huggingface.co/org/llama"), ("not/a/name", "hf_granted", "'not/a/name'")],
)
@pytest.mark.usefixtures("hub")
def test_what_the_hub_refuses_is_a_problem(
    tiny_params: Params, monkeypatch: pytest.MonkeyPatch, name: str, token: str, text: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    result = check(tiny_params, name)
    assert result.level == "problem"
    assert text in result.text
    assert "a local folder as encoder.name in params.yaml" in str(result.remedy)
    # A missing token was called ok, whatever the hub refused.
    assert check(tiny_params, name, topic="hub token").level == ("ok" if token else "warning")


def test_half_of_a_model_in_the_cache_is_a_problem(
    tiny_params: Params, tiny_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = tmp_path / "hub" / "models--org--model"
    snapshot = shutil.copytree(tiny_clip, cached / "snapshots" / "abc")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    assert check(tiny_params, "org/model", None).text == "org/model is in the hub's cache"
    weights = snapshot / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    result = check(tiny_params, "org/model", None)
    assert result.level == "problem"
    assert "HF_HUB_OFFLINE" in result.text


def test_a_folder_needs_config_and_whole_weights(folder: Path, tiny_params: Params, tiny_clip: Path) -> None:
    clip = shutil.copytree(tiny_clip, folder / "clip")
    assert check(tiny_params, "clip").level == "ok"
    weights = clip / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "model.safetensors is damaged" in check(tiny_params, "clip").text
    weights.unlink()
    assert "has no *.safetensors" in check(tiny_params, "clip").text
    (clip / "config.json").unlink()
    assert "no config.json" in check(tiny_params, "clip").text
    for name in ("./nowhere", "wheel:nobody"):
        result = check(tiny_params, name)
        assert (result.level, bool(result.remedy)) == ("problem", True)
        assert name.removeprefix("./") in result.text


@pytest.mark.parametrize(
    ("name", "tokens", "grid", "shape"),
    [
        ("openai/clip-vit-base-patch32", "cls+patches", None, (50, 768)),
        ("folder/clip-vit-large-patch14-336", "patches", None, (576, 1024)),
        ("wheel:efficientnet-lite0", "patches", 4, (16, 1344)),
        ("org/other", "cls", None, None),
    ],
)
def test_the_encoders_name_gives_the_features_shape(
    name: str, tokens: Any, grid: int | None, shape: tuple[int, int] | None
) -> None:
    assert models.feature_shape(EncoderParams(name, None, -2, tokens, grid)) == shape
