"""Models from a hub: what goes wrong there is a sentence, what breaks off is completed.

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
from huggingface_hub import constants
from safetensors.numpy import load_file, save_file

from pipeline.errors import PipelineError
from pipeline.pretrained import hub as hub_module
from pipeline.pretrained.hub import HubRepository, download_snapshot
from pipeline.pretrained.pretrained import resolve_model
from tests.hub_stand_in import HubStandIn

LLAMA, COMMIT = "meta-llama/Llama-3.2-1B", "4e20de362430cd3b72f300e6b0f18e50e7166e08"
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
def test_a_model_is_downloaded_once(granted: HubStandIn, tiny_llama: Path, revision: str | None) -> None:
    folder = resolve_model(LLAMA, revision, None)
    assert (folder / WEIGHTS).read_bytes() == (tiny_llama / WEIGHTS).read_bytes()
    assert (folder / "tokenizer.json").is_file()
    granted.requests.clear()
    assert resolve_model(LLAMA, revision, None) == folder
    assert not granted.transfers(WEIGHTS)
    if revision:
        assert granted.requests == []


def test_what_is_downloaded_needs_no_hub(granted: HubStandIn) -> None:
    folder = resolve_model(LLAMA, COMMIT, None)
    granted.stop()
    assert resolve_model(LLAMA, COMMIT, None) == folder


def test_pickles_and_code_are_never_downloaded(granted: HubStandIn, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    for name in ("pytorch_model.bin", "modeling.py", "config.json"):
        (repository / name).write_text("{}")
    save_file({"weight": np.zeros(1)}, repository / WEIGHTS)
    granted.add("org/other", repository, COMMIT)
    assert {p.name for p in resolve_model("org/other", COMMIT, None).iterdir()} == {"config.json", WEIGHTS}


def test_a_revision_without_safetensors_is_a_sentence(granted: HubStandIn, tmp_path: Path) -> None:
    """As OpenAI's CLIP ViT-B/32 on its branch main."""
    for name in ("pytorch_model.bin", "config.json"):
        (tmp_path / name).write_text("{}")
    granted.add("org/other", tmp_path, COMMIT)
    assert re.match(
        r"org/other has no \.safetensors weights at main, .* pull request at "
        r"https://huggingface\.co/org/other/discussions\), or another model\.",
        sentence("org/other", None),
    )


@pytest.mark.parametrize("fault", ["truncated", "stalled"])
def test_a_transfer_that_breaks_off_goes_on_where_it_stopped(
    granted: HubStandIn, tiny_llama: Path, fault: str
) -> None:
    # Small files first, so that it is the weights' transfer that breaks off.
    download_snapshot(HubRepository(LLAMA, COMMIT), ["*.json"])
    setattr(granted, fault, 2)
    folder = resolve_model(LLAMA, COMMIT, None)
    assert (folder / WEIGHTS).read_bytes() == (tiny_llama / WEIGHTS).read_bytes()
    size = (tiny_llama / WEIGHTS).stat().st_size
    first, *others = granted.transfers(WEIGHTS)
    assert first is None
    starts = [int(str(asked).removeprefix("bytes=").removesuffix("-")) for asked in others]
    assert starts == pytest.approx([size / 2, size * 3 / 4], abs=2 * constants.DOWNLOAD_CHUNK_SIZE)


@pytest.mark.usefixtures("granted")
def test_what_an_interrupted_download_lacks_is_completed() -> None:
    folder = download_snapshot(HubRepository(LLAMA, COMMIT), ["*.json"])
    assert not (folder / WEIGHTS).exists()
    assert resolve_model(LLAMA, COMMIT, None) == folder
    assert load_file(folder / WEIGHTS)


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


def test_the_command_of_the_sentence_completes_the_cache(
    hub: HubStandIn, tmp_path: Path, tiny_clip: Path
) -> None:
    hub.add("openai/clip", tiny_clip, COMMIT)
    repository = HubRepository("openai/clip", COMMIT)
    hub.failing, hub.status = 1000, 503
    said = sentence("openai/clip")
    assert f"run `{repository.command}`" in said
    hub.failing = 0
    command = [str(Path(sys.executable).parent / "hf"), *repository.command.split()[1:]]
    environment = {"PATH": "/usr/bin:/bin", **hub.environment(tmp_path / "home")}
    environment["HF_HUB_CACHE"] = str(tmp_path / "cache")
    subprocess.run(command, env=environment, check=True, capture_output=True)
    hub.stop()
    assert (resolve_model("openai/clip", COMMIT, None) / WEIGHTS).is_file()


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.usefixtures("hub")
def test_gated_without_a_token() -> None:
    said = sentence()
    assert said.startswith(f"{LLAMA} is gated: accept its licence at https://huggingface.co/{LLAMA}, then ")
    assert "`hf auth login`" in said


@pytest.mark.usefixtures("hub")
def test_gated_without_access(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_stranger")
    said = sentence()
    assert f"is gated: accept its licence at https://huggingface.co/{LLAMA} and wait" in said
    assert "`hf auth whoami`" in said


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("revision", [COMMIT, None])
def test_a_wrong_token(monkeypatch: pytest.MonkeyPatch, revision: str | None) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    said = sentence(revision=revision)
    assert said.startswith("the hub does not accept your token: run `hf auth login`")
    assert "https://huggingface.co/settings/tokens" in said


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("token", ["hf_granted", None])
def test_an_unknown_model(monkeypatch: pytest.MonkeyPatch, token: str | None) -> None:
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    said = sentence("org/nothing")
    assert said.startswith("the hub knows no model org/nothing, or your token may not see it")
    assert "https://huggingface.co/org/nothing" in said


@pytest.mark.usefixtures("granted")
@pytest.mark.parametrize("revision", ["0" * 40, "v9"])
def test_an_unknown_revision(revision: str) -> None:
    said = sentence(revision=revision)
    assert said == (
        f"{LLAMA} has no revision {revision}; its commits are at https://huggingface.co/{LLAMA}/commits/main."
    )


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (500, f"the hub cannot serve {LLAMA} at present (it answers 500); repeat the command later"),
        (503, f"run `hf download {LLAMA} --revision {COMMIT}`: files that are complete are kept"),
        (429, "the hub allows no more requests for now (429"),
        (403, f"your token may not read {LLAMA}: allow it to at https://huggingface.co/settings/tokens"),
    ],
)
def test_a_hub_that_fails(granted: HubStandIn, status: int, said: str) -> None:
    granted.failing, granted.status = 1000, status
    assert said in sentence()


def test_a_hub_that_fails_for_a_moment_is_asked_again(granted: HubStandIn) -> None:
    granted.failing, granted.status = 2, 503
    assert resolve_model(LLAMA, COMMIT, None).is_dir()


@pytest.mark.parametrize("revision", [COMMIT, None])
def test_no_network(granted: HubStandIn, revision: str | None) -> None:
    granted.stop()
    said = sentence(revision=revision)
    assert said.startswith(f"{LLAMA} is not, or not wholly, in the local cache and the hub cannot be reached")
    assert "run `hf download" in said
    assert said.endswith("or give the path of a local folder.")


def test_no_network_and_half_a_model(granted: HubStandIn) -> None:
    download_snapshot(HubRepository(LLAMA, COMMIT), ["*.json"])
    granted.stop()
    assert "is not, or not wholly, in the local cache" in sentence()


@pytest.mark.usefixtures("granted")
def test_offline_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "in the local cache, and HF_HUB_OFFLINE forbids to fetch it; unset it and run `hf" in sentence()


def test_transfers_that_never_end(granted: HubStandIn) -> None:
    """The connection drops again and again until nothing is left to try."""
    download_snapshot(HubRepository(LLAMA, COMMIT), ["*.json"])
    granted.truncated, granted.share = 1000, 0.0
    said = sentence()
    assert said.startswith(f"the download of {LLAMA} broke off (RemoteProtocolError); repeat the command")
    assert "files that are complete are kept" in said


def test_a_file_that_stays_damaged(granted: HubStandIn) -> None:
    granted.corrupted = {WEIGHTS}
    said = sentence()
    assert f"{WEIGHTS} is damaged: " in said
    assert f"delete it and run `hf download {LLAMA} --revision {COMMIT}`" in said


@pytest.mark.usefixtures("granted")
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(errno.EACCES, "no", "/x"), f"{LLAMA} cannot be stored in the hub's cache: "),
        (RuntimeError("xet"), f"the download of {LLAMA} broke off (RuntimeError); repeat the command or run"),
        (OSError("Consistency check failed"), f"the download of {LLAMA} broke off (OSError); repeat"),
    ],
)
def test_what_fails_on_this_side(monkeypatch: pytest.MonkeyPatch, error: Exception, said: str) -> None:
    def fail(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr(hub_module, "snapshot_download", fail)
    assert sentence().startswith(said)


@pytest.mark.usefixtures("granted")
def test_a_full_disk_is_named_with_its_free_space(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(hub_module, "snapshot_download", fail)
    assert re.match(rf"cannot write \S+/cache/{LLAMA}: No space left on device \([\d,.]+ MB free", sentence())
    assert "HF_HOME may name a folder on a larger disk" in sentence()


def test_something_else_than_a_hub_answers(granted: HubStandIn) -> None:
    """A portal of a hotel, a company's proxy, a wrong HF_ENDPOINT."""
    granted.anonymous = True
    assert sentence().startswith(f"what answers for {LLAMA} is no model hub; check HF_ENDPOINT")


def test_a_name_that_is_none() -> None:
    with pytest.raises(PipelineError, match="neither a folder nor a hub id like org/model"):
        resolve_model("not a name!", None, None)
