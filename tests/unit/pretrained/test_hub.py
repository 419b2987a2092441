"""Models from a hub: what is local is not asked for, what is missing is completed, failures are sentences.

The hub is a stand-in on loopback (tests/hub_stand_in.py).

Run: .venv/bin/python -m pytest tests/unit/pretrained/test_hub.py
"""

import errno
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.utils import httpx  # type: ignore[attr-defined]
from safetensors.numpy import save_file

from pipeline.errors import PipelineError
from pipeline.params.schema import EncoderParams, LanguageModelParams, Params
from pipeline.pretrained import hub as hub_module
from pipeline.pretrained.hub import HubRepository, download_file, download_snapshot
from pipeline.pretrained.pretrained import ENCODER, LANGUAGE_MODEL, resolve_model
from pipeline.text.prompt import CaptionTokenizer
from pipeline.vision.load import load_encoder
from tests.hub_stand_in import HubStandIn
from tests.refusals import fail_reads

LLAMA, COMMIT = "meta-llama/Llama-3.2-1B", "4e20de362430cd3b72f300e6b0f18e50e7166e08"
PAGE = f"https://huggingface.co/{LLAMA}"
TOKENS = "https://huggingface.co/settings/tokens"
WEIGHTS = "model.safetensors"


@pytest.fixture
def hub(tiny_llama: Path, local_hub: HubStandIn) -> HubStandIn:
    """A hub with a gated Llama, and a token that may read it."""
    local_hub.tokens = {"hf_granted": {LLAMA}, "hf_stranger": set()}
    local_hub.add(LLAMA, tiny_llama, COMMIT, gated=True)
    return local_hub


@pytest.fixture
def granted(hub: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> HubStandIn:
    monkeypatch.setenv("HF_TOKEN", "hf_granted")
    return hub


def sentence(name: str = LLAMA, revision: str | None = COMMIT) -> str:
    with pytest.raises(PipelineError) as caught:
        resolve_model(name, revision, None)
    return str(caught.value)


# --- what works -----------------------------------------------------------------------------------


@pytest.mark.parametrize("revision", [COMMIT, None])
def test_the_hub_is_not_called_when_all_is_local(
    granted: HubStandIn, tiny_clip: Path, tiny_params: Params, revision: str | None
) -> None:
    """Not for the newest revision, and not by the libraries that load a model."""
    granted.add("openai/clip", tiny_clip, COMMIT)
    folders = [resolve_model(name, revision, None) for name in (LLAMA, "openai/clip")]
    asked = [line for line, _ in granted.requests]
    assert asked
    assert not any("agent" in line for line in asked), "a list of programs that may use the library"
    granted.requests.clear()
    assert [resolve_model(name, revision, None) for name in (LLAMA, "openai/clip")] == folders
    encoder = EncoderParams(name="openai/clip", revision=revision, layer=-2, tokens="patches", grid=None)
    load_encoder(encoder, torch.device("cpu"))
    language = LanguageModelParams(
        name=LLAMA, revision=revision, quantization="none", double_quantization=False
    )
    CaptionTokenizer(tiny_params.prompt, language)
    assert granted.requests == []


def test_pickles_and_code_are_never_downloaded(granted: HubStandIn, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    for name in ("pytorch_model.bin", "modeling.py", "config.json"):
        (repository / name).write_text("{}")
    save_file({"weight": np.zeros(1)}, repository / WEIGHTS)
    granted.add("org/other", repository, COMMIT)
    assert {p.name for p in resolve_model("org/other", COMMIT, None).iterdir()} == {"config.json", WEIGHTS}


@pytest.mark.usefixtures("granted")
@pytest.mark.parametrize("parts", [["*.json"], ["config.json", "*.safetensors"]])
def test_what_another_download_left_out_is_completed(tiny_llama: Path, parts: list[str]) -> None:
    """An interrupted one; or that of a program which takes the weights without the tokenizer."""
    folder = download_snapshot(HubRepository(LLAMA, COMMIT), parts)
    assert resolve_model(LLAMA, COMMIT, None) == folder
    for name in (WEIGHTS, "tokenizer.json"):
        assert (folder / name).read_bytes() == (tiny_llama / name).read_bytes()


def cached_files(name: str, folder: Path, left_out: str = "") -> Path:
    """The snapshot of a program that took the files of `folder` one by one: without the hub's listing."""
    files = [file.name for file in folder.iterdir() if file.name != left_out]
    (snapshot,) = {download_file(HubRepository(name, COMMIT), file).parent for file in files}
    return snapshot


@pytest.mark.usefixtures("granted")
@pytest.mark.parametrize(
    "left_out", ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"]
)
def test_a_part_of_a_language_model_without_a_listing_is_completed(left_out: str, tiny_llama: Path) -> None:
    """It was taken for whole; without generation_config.json other tokens ended its answers."""
    folder = cached_files(LLAMA, tiny_llama, left_out)
    assert resolve_model(LLAMA, COMMIT, None) == folder
    assert (folder / left_out).is_file()


def test_a_part_of_an_encoder_without_a_listing_is_completed(granted: HubStandIn, tiny_clip: Path) -> None:
    granted.add("openai/clip", tiny_clip, COMMIT)
    folder = cached_files("openai/clip", tiny_clip, "preprocessor_config.json")
    resolve_model("openai/clip", COMMIT, None, ENCODER)
    assert (folder / "preprocessor_config.json").is_file()


def test_a_whole_model_without_a_listing_is_not_asked_for(
    granted: HubStandIn, tiny_clip: Path, tiny_llama: Path
) -> None:
    granted.add("openai/clip", tiny_clip, COMMIT)
    for name, files, needed in (
        (LLAMA, tiny_llama, LANGUAGE_MODEL),
        ("openai/clip", tiny_clip, ENCODER),
    ):
        cached_files(name, files)
        granted.requests.clear()
        resolve_model(name, COMMIT, None, needed)
        assert granted.requests == []


@pytest.mark.parametrize("left_out", ["tokenizer.json", "generation_config.json"])
def test_a_part_of_a_model_without_hub_and_listing(
    granted: HubStandIn, left_out: str, tiny_llama: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What the model cannot do without is named; what it may never have had, in a warning."""
    folder = cached_files(LLAMA, tiny_llama, left_out)
    granted.failing, granted.status = 1000, 503
    if left_out == "tokenizer.json":
        assert "tokenizer.json is missing" in sentence()
    else:
        assert resolve_model(LLAMA, COMMIT, None) == folder
        assert "in the cache has no generation_config.json" in caplog.text


@pytest.mark.usefixtures("granted")
def test_a_damaged_file_in_the_cache_is_downloaded_again(
    tiny_llama: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = resolve_model(LLAMA, COMMIT, None)
    whole = (tiny_llama / WEIGHTS).read_bytes()
    (folder / WEIGHTS).resolve().write_bytes(whole[:-5])
    assert resolve_model(LLAMA, COMMIT, None) == folder
    assert (folder / WEIGHTS).read_bytes() == whole
    assert f"it has {len(whole) - 5} bytes, its header says {len(whole)}: it is downloaded" in caplog.text


@pytest.mark.usefixtures("granted")
def test_a_file_in_the_cache_on_a_disk_that_fails_is_not_deleted_as_damaged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = resolve_model(LLAMA, COMMIT, None)
    with monkeypatch.context() as patch:
        fail_reads(patch, folder)
        assert f"cannot read {folder / WEIGHTS}: Input/output error; it is left" in sentence()
    assert (folder / WEIGHTS).resolve().is_file()


def test_the_command_of_the_sentence_completes_the_cache(
    hub: HubStandIn, tmp_path: Path, tiny_clip: Path
) -> None:
    hub.add("openai/clip", tiny_clip, COMMIT)
    repository = HubRepository("openai/clip", COMMIT)
    hub.failing, hub.status = 1000, 503
    assert f"run `{repository.command}`" in sentence("openai/clip")
    hub.failing = 0
    command = [str(Path(sys.executable).parent / "hf"), *repository.command.split()[1:]]
    environment = {"PATH": "/usr/bin:/bin", **hub.environment(tmp_path / "home")}
    environment["HF_HUB_CACHE"] = str(tmp_path / "cache")
    subprocess.run(command, env=environment, check=True, capture_output=True)
    hub.stop()
    assert (resolve_model("openai/clip", COMMIT, None) / WEIGHTS).is_file()


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("token", "name", "revision", "said"),
    [
        (None, LLAMA, COMMIT, f"{LLAMA} is gated: .* at {PAGE}, then run `hf auth login`"),
        ("hf_stranger", LLAMA, COMMIT, f"{LLAMA} is gated: .* at {PAGE} and wait .*`hf auth whoami`"),
        ("hf_wrong", LLAMA, COMMIT, f"the hub does not accept your token: run `hf auth login` .*{TOKENS}"),
        ("hf_wrong", LLAMA, None, f"the hub does not accept your token: run `hf auth login` .*{TOKENS}"),
        ("hf_granted", "org/nothing", COMMIT, r"the hub knows no model org/nothing, .*\.co/org/nothing"),
        (None, "org/nothing", COMMIT, r"the hub knows no model org/nothing, .*\.co/org/nothing"),
        ("hf_granted", LLAMA, "0" * 40, f"{LLAMA} has no revision {'0' * 40}; .* at {PAGE}/commits/main"),
        ("hf_granted", LLAMA, "v9", f"{LLAMA} has no revision v9; .* at {PAGE}/commits/main"),
        (None, "not a name!", None, "'not a name!' is neither a folder nor a hub id like org/model"),
    ],
)
def test_what_the_hub_refuses_is_named_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, token: str | None, name: str, revision: str | None, said: str
) -> None:
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    assert re.match(said, sentence(name, revision))


def test_a_revision_without_safetensors_is_named(granted: HubStandIn, tmp_path: Path) -> None:
    """As OpenAI's CLIP ViT-B/32 on its branch main."""
    for name in ("pytorch_model.bin", "config.json"):
        (tmp_path / name).write_text("{}")
    granted.add("org/other", tmp_path, COMMIT)
    said = sentence("org/other", None)
    assert said.startswith("org/other has no .safetensors weights at main")
    assert "https://huggingface.co/org/other/discussions" in said


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (500, f"the hub cannot serve {LLAMA} at present (it answers 500); repeat the command later"),
        (503, f"run `hf download {LLAMA} --revision {COMMIT}`: files that are complete are kept"),
        (429, "the hub allows no more requests for now (429"),
        (403, f"your token may not read {LLAMA}: allow it to at {TOKENS}"),
    ],
)
def test_a_hub_that_fails(granted: HubStandIn, status: int, said: str) -> None:
    granted.failing, granted.status = 1000, status
    assert said in sentence()


@pytest.mark.parametrize("revision", [COMMIT, None])
@pytest.mark.parametrize("parts", [["*.json"], []])
def test_no_network(granted: HubStandIn, revision: str | None, parts: list[str]) -> None:
    """With a part of the model in the cache, and without."""
    if parts:
        download_snapshot(HubRepository(LLAMA, revision), parts)
    granted.stop()
    said = sentence(revision=revision)
    assert said.startswith(f"{LLAMA} is not, or not wholly, in the local cache and the hub cannot be reached")
    assert "run `hf download" in said
    assert said.endswith("or give the path of a local folder.")


@pytest.mark.usefixtures("granted")
def test_offline_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE forbids to fetch it; unset it and run `hf" in sentence()


def test_a_file_that_stays_damaged(granted: HubStandIn) -> None:
    granted.corrupted = {WEIGHTS}
    said = sentence()
    assert f"{WEIGHTS} is damaged: " in said
    assert f"delete it and run `hf download {LLAMA} --revision {COMMIT}`" in said


def test_something_else_than_a_hub_answers(granted: HubStandIn) -> None:
    """A portal of a hotel, a company's proxy, a wrong HF_ENDPOINT."""
    granted.anonymous = True
    assert sentence().startswith(f"what answers for {LLAMA} is no model hub; check HF_ENDPOINT")


@pytest.mark.usefixtures("granted")
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(errno.EACCES, "no", "/x"), f"{LLAMA} cannot be stored in the hub's cache: "),
        (RuntimeError("xet"), rf"the download of {LLAMA} broke off \(RuntimeError\); .*HF_HUB_DISABLE_XET"),
        (OSError("Consistency check failed"), rf"the download of {LLAMA} broke off \(OSError\); repeat"),
        (httpx.RemoteProtocolError("cut"), r"the download of .* broke off \(RemoteProtocolError\); repeat"),
        (
            OSError(errno.ENOSPC, "full"),
            rf"cannot write \S+/cache/{LLAMA}: No space left on device \([\d,.]+ MB free.* HF_HOME may name",
        ),
    ],
)
def test_what_fails_on_this_side(monkeypatch: pytest.MonkeyPatch, error: Exception, said: str) -> None:
    def fail(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr(hub_module, "snapshot_download", fail)
    assert re.match(said, sentence())
