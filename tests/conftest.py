"""Fixtures that several tests share: tiny models, and parameters of tiny runs."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# No test may reach a model hub; set before any library reads it.
os.environ["HF_HUB_OFFLINE"] = "1"
# Tiny models gain nothing from threads, and threads of several test processes wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"

from pipeline.params.loader import load_params
from pipeline.params.schema import Params, ScenesParams
from tests.chromium import WHY_NOT, Chromium, chromium
from tests.hub_stand_in import HubStandIn
from tests.import_closure import ROOT as ROOT
from tests.params_files import with_changes
from tests.tiny_models import save_clip, save_llama

# How long an example takes depends on the machine, and no test asserts a time.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny random CLIP vision model."""
    return save_clip(tmp_path_factory.mktemp("models") / "tiny-clip")


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny random Llama with its tokenizer."""
    return save_llama(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """A headless Chromium; tests that need it are skipped where it is absent."""
    if WHY_NOT is not None:
        pytest.skip(WHY_NOT)
    with chromium(tmp_path_factory.mktemp("chromium")) as window:
        yield window


def make_tiny_params(tiny_clip: Path, tiny_llama: Path) -> Params:
    """The sample's parameters, shrunk: tiny models, two dozen small scenes, small batches.

    Only the projector is trained, as in the profiles for CLIP.
    """
    training = {"epochs": 2, "batch_size": 4, "learning_rate": 4e-3, "ema_decay": 0.95, "warmup_steps": 2}
    batches = {"num_workers": 1, "encode_batch_size": 4, "generate_batch_size": 4}
    return with_changes(
        load_params(ROOT / "profiles" / "sample.yaml"),
        data={"scenes": ScenesParams(16, 4, 6, image_size=64, seed=0)},
        encoder={"name": str(tiny_clip), "layer": -2, "grid": None},
        language_model={"name": str(tiny_llama)},
        projector={"hidden_size": 32},
        lora={"rank": 0, "targets": ("q_proj", "v_proj")},
        train={**training, "word_passes": 0},
        generate={"max_new_tokens": 8},
        regions={"images": 2},
        runtime={**batches, "device": "cpu", "compile": "never", "dequantize": "never"},
    )


@pytest.fixture(scope="session")
def tiny_params(tiny_clip: Path, tiny_llama: Path) -> Params:
    return make_tiny_params(tiny_clip, tiny_llama)


@pytest.fixture
def local_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    """A stand-in for the model hub that this process uses, with an empty cache and no token."""
    from huggingface_hub import constants

    with HubStandIn() as hub:
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(constants.ENDPOINT)
        # Read from the environment when the library is imported, which happened long ago.
        for name, value in (
            ("HUGGINGFACE_CO_URL_TEMPLATE", hub.endpoint + template),
            ("ENDPOINT", hub.endpoint),
            ("HF_HUB_OFFLINE", False),
            ("HF_HUB_CACHE", str(tmp_path / "cache")),
            ("HF_TOKEN_PATH", str(tmp_path / "token")),
            ("HF_HUB_DISABLE_XET", True),
            ("HF_HUB_DOWNLOAD_TIMEOUT", 0.3),
            ("DOWNLOAD_CHUNK_SIZE", 1024),
        ):
            monkeypatch.setattr(constants, name, value)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(name, "127.0.0.1,localhost")
        # It waits between attempts, longer each time.
        monkeypatch.setattr("time.sleep", lambda _: None)
        yield hub


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_params: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`data/best.safetensors` of a captioner of the tiny models."""
    from tests.tiny_captioner import save_captioner

    return save_captioner(tmp_path_factory.mktemp("tiny") / "data" / "best.safetensors", tiny_params)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What a test logs, facts included."""
    caplog.set_level(logging.INFO)
    return caplog


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's own folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
