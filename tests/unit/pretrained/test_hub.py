"""Models from a hub: what is local is not asked for, what is missing is completed, failures are sentences.

The hub is a stand-in on loopback (tests/hub_stand_in.py).
"""

import errno
import re
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.utils import httpx  # type: ignore[attr-defined]
from safetensors.numpy import save_file

from pipeline.params.schema import EncoderParams, LanguageModelParams, Params
from pipeline.pretrained import hub as hub_module
from pipeline.pretrained.hub import HubRepository, download_file, download_snapshot
from pipeline.pretrained.pretrained import ENCODER, LANGUAGE_MODEL, resolve_model
from pipeline.text.prompt import CaptionTokenizer
from pipeline.vision.load import load_encoder
from tests.hub_stand_in import HubStandIn
from tests.refusals import fail_reads, refusal

LLAMA, COMMIT = "meta-llama/Llama-3.2-1B", "4e20de362430cd3b72f300e6b0f18e50e7166e08"
CLIP = "openai/clip"
KINDS = {LLAMA: LANGUAGE_MODEL, CLIP: ENCODER}
PAGE = f"https://huggingface.co/{LLAMA}"
TOKENS = "https://huggingface.co/settings/tokens"
WEIGHTS = "model.safetensors"
DOWNLOAD = f"run `hf download {LLAMA} --revision {COMMIT}`"


@pytest.fixture
def hub(tiny_llama: Path, tiny_clip: Path, local_hub: HubStandIn) -> HubStandIn:
    """A hub with a gated Llama and an open CLIP, and a token that may read both."""
    local_hub.tokens = {"hf_granted": {LLAMA}, "hf_stranger": set()}
    local_hub.add(LLAMA, tiny_llama, COMMIT, gated=True)
    local_hub.add(CLIP, tiny_clip, COMMIT)
    return local_hub


@pytest.fixture
def granted(hub: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> HubStandIn:
    monkeypatch.setenv("HF_TOKEN", "hf_granted")
    return hub


def resolve(name: str = LLAMA, revision: str | None = COMMIT) -> Path:
    return resolve_model(name, revision, None, KINDS.get(name, LANGUAGE_MODEL))


def cache_without_listing(name: str, files: Sequence[str]) -> Path:
    """Take files one by one, as other programs do."""
    (snapshot,) = {download_file(HubRepository(name, COMMIT), file).parent for file in files}
    return snapshot


# --- what works -----------------------------------------------------------------------------------


@pytest.mark.parametrize("revision", [COMMIT, None])
def test_the_hub_is_not_called_again(granted: HubStandIn, tiny_params: Params, revision: str | None) -> None:
    """Not for the newest revision, and not by the libraries that load a model."""
    folders = [resolve(name, revision) for name in KINDS]
    assert granted.requests
    assert not any("agent" in line for line, _ in granted.requests), "asks which programs use the library"
    granted.requests.clear()
    assert [resolve(name, revision) for name in KINDS] == folders
    encoder = EncoderParams(name=CLIP, revision=revision, layer=-2, tokens="patches", grid=None)
    load_encoder(encoder, torch.device("cpu"))
    CaptionTokenizer(
        tiny_params.prompt, LanguageModelParams(LLAMA, revision, "none", double_quantization=False)
    )
    assert granted.requests == []


@pytest.mark.parametrize(
    ("name", "absent"),
    [
        (LLAMA, "tokenizer.json"),
        (LLAMA, "generation_config.json"),
        (CLIP, "preprocessor_config.json"),
        (LLAMA, ""),
    ],
)
def test_a_model_without_the_hubs_listing_is_completed_where_files_are_missing(
    name: str, absent: str, granted: HubStandIn, tiny_llama: Path, tiny_clip: Path
) -> None:
    """It was taken for complete; without generation_config.json other tokens ended its answers."""
    source = tiny_llama if name == LLAMA else tiny_clip
    folder = cache_without_listing(name, [file.name for file in source.iterdir() if file.name != absent])
    granted.requests.clear()
    assert resolve(name) == folder
    assert {file.name for file in folder.iterdir()} == {file.name for file in source.iterdir()}
    assert (granted.requests == []) == (absent == "")


@pytest.mark.parametrize("absent", ["tokenizer.json", "generation_config.json"])
def test_a_part_of_a_model_without_hub_and_listing(
    granted: HubStandIn, absent: str, tiny_llama: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that the model needs is named in an error; one that it may never have had, in a warning."""
    folder = cache_without_listing(LLAMA, [f.name for f in tiny_llama.iterdir() if f.name != absent])
    granted.failing, granted.status = 1000, 503
    if absent == "tokenizer.json":
        assert "tokenizer.json is missing" in refusal(resolve)
    else:
        assert resolve() == folder
        assert "has no generation_config.json" in caplog.text


@pytest.mark.usefixtures("granted")
def test_a_damaged_file_is_downloaded_again(tiny_llama: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, content = resolve(), (tiny_llama / WEIGHTS).read_bytes()
    (folder / WEIGHTS).resolve().write_bytes(content[:-5])
    assert resolve() == folder
    assert (folder / WEIGHTS).read_bytes() == content
    assert f"{WEIGHTS} of {LLAMA} is damaged" in caplog.text


@pytest.mark.usefixtures("granted")
def test_a_file_that_cannot_be_read_is_not_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = resolve()
    with monkeypatch.context() as patch:
        fail_reads(patch, folder)
        assert f"{folder / WEIGHTS}: Input/output error" in refusal(resolve)
    assert (folder / WEIGHTS).resolve().is_file()


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("token", "name", "revision", "words"),
    [
        ("", LLAMA, COMMIT, f"{LLAMA} is gated.*{PAGE}, .*`hf auth login`"),
        ("hf_stranger", LLAMA, COMMIT, f"{LLAMA} is gated.*{PAGE}, .*`hf auth whoami`"),
        ("hf_wrong", LLAMA, COMMIT, f"your token.*{TOKENS}.*`hf auth login`"),
        ("hf_granted", "org/nothing", COMMIT, r"no model org/nothing,.*\.co/org/nothing"),
        ("", "org/nothing", COMMIT, r"no model org/nothing,.*\.co/org/nothing"),
        ("hf_granted", LLAMA, "0" * 40, f"{LLAMA} has no revision {'0' * 40}.*{PAGE}/commits/main"),
        ("", "not a name!", None, "'not a name!' is not a folder or a hub id like org/model"),
    ],
)
def test_what_the_hub_refuses_is_named_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, token: str, name: str, revision: str | None, words: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    assert re.search(words, refusal(resolve, name, revision))


def test_pickles_and_code_are_never_downloaded(granted: HubStandIn, tmp_path: Path) -> None:
    """OpenAI's CLIP ViT-B/32 has no safetensors on its branch main."""
    (folder := tmp_path / "files").mkdir()
    for name in ("pytorch_model.bin", "modeling.py", "config.json"):
        (folder / name).write_text("{}")
    granted.add("org/other", folder, COMMIT)
    message = r"org/other has no \.safetensors weights at main.*\.co/org/other/discussions"
    assert re.match(message, refusal(resolve, "org/other", None))
    save_file({"weight": np.zeros(1)}, folder / WEIGHTS)
    granted.add("org/good", folder, COMMIT)
    assert {path.name for path in resolve("org/good").iterdir()} == {"config.json", WEIGHTS}


@pytest.mark.parametrize(
    ("behavior", "words"),
    [
        ({"failing": 1000, "status": 500}, f"answers 500.*{DOWNLOAD}"),
        ({"failing": 1000, "status": 429}, "429"),
        ({"failing": 1000, "status": 403}, f"{LLAMA}, or your token.*{TOKENS}"),
        ({"corrupted": {WEIGHTS}}, f"{WEIGHTS} is damaged: .*{DOWNLOAD}"),
        ({"anonymous": True}, f"What answers for {LLAMA} is not a model hub.*HF_ENDPOINT"),
    ],
)
def test_a_hub_that_does_not_serve(granted: HubStandIn, behavior: dict[str, object], words: str) -> None:
    for name, value in behavior.items():
        setattr(granted, name, value)
    assert re.search(words, refusal(resolve))


@pytest.mark.parametrize(("revision", "parts"), [(COMMIT, []), (None, ["*.json"])])
def test_no_network(granted: HubStandIn, revision: str | None, parts: list[str]) -> None:
    download_snapshot(HubRepository(LLAMA, revision), parts)
    granted.stop()
    # The connection that was open may break before a new one is refused.
    message = (
        rf"{LLAMA} is not complete.*cannot be reached.*run `hf download|The download of {LLAMA} broke off"
    )
    assert re.match(message, refusal(resolve, LLAMA, revision))


@pytest.mark.usefixtures("granted")
def test_offline_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert f"unset HF_HUB_OFFLINE and {DOWNLOAD}" in refusal(resolve)


@pytest.mark.usefixtures("granted")
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(errno.EACCES, "no", "/x"), f"cannot write .*{LLAMA}: Permission denied"),
        (RuntimeError("xet"), rf"download of {LLAMA} broke off \(RuntimeError\).*HF_HUB_DISABLE_XET"),
        (httpx.RemoteProtocolError("cut"), r"download of .* broke off \(RemoteProtocolError\)"),
        (OSError(errno.ENOSPC, "full"), rf"/cache/{LLAMA}: No space left .* HF_HOME"),
        (AttributeError("closed", name="stream", obj=None), r"download of .* broke off \(AttributeError\)"),
    ],
)
def test_what_fails_on_this_side(monkeypatch: pytest.MonkeyPatch, error: Exception, words: str) -> None:
    monkeypatch.setattr(hub_module, "snapshot_download", Mock(side_effect=error))
    assert re.search(words, refusal(resolve))


@pytest.mark.usefixtures("granted")
def test_a_mistake_in_the_code_is_no_fault_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    mistake = AttributeError("no attribute", name="folder", obj=object())
    monkeypatch.setattr(hub_module, "snapshot_download", Mock(side_effect=mistake))
    with pytest.raises(AttributeError, match="no attribute"):
        refusal(resolve)
