"""What cannot be exported to the same captions is refused, with what to do instead."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from pipeline.errors import PipelineError
from pipeline.export.llava import export_llava
from pipeline.model.checkpoints import load_checkpoint, save_checkpoint
from tests.tiny_models import save_llama
from tests.unit.export.trained import Train, Trained

INSTEAD = r".*LLaVA's format takes a CLIP encoder.* plain safetensors"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"tokens": "cls"}, "encoder.tokens cls"),
        ({"tokens": "mean"}, "encoder.tokens mean"),
        ({"grid": 2}, "encoder.grid 2"),
        ({"hidden_size": 65}, "projector.hidden_size is 65"),
    ],
)
def test_settings_that_llava_does_not_know_are_refused(
    train: Train, tmp_path: Path, settings: dict[str, Any], named: str
) -> None:
    checkpoint = train(**settings).checkpoint
    with pytest.raises(PipelineError, match=named + INSTEAD):
        export_llava(checkpoint, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["wheel:efficientnet-lite0", "tiny-llama"])
def test_encoders_other_than_clip_are_refused(
    trained: Trained, tiny_llama: Path, tmp_path: Path, name: str
) -> None:
    checkpoint = load_checkpoint(trained.checkpoint)
    encoder = {**checkpoint.info.encoder, "name": str(tiny_llama) if name == "tiny-llama" else name}
    other = tmp_path / "other.safetensors"
    save_checkpoint(other, checkpoint.projector.state_dict(), replace(checkpoint.info, encoder=encoder))
    with pytest.raises(PipelineError, match=f"{name} is not a CLIP model{INSTEAD}"):
        export_llava(other, tmp_path / "model")


def test_a_tokenizer_that_reads_a_text_in_one_piece_otherwise_is_refused(
    train: Train, llama: Path, tmp_path: Path
) -> None:
    text = json.loads(AutoTokenizer.from_pretrained(llama).backend_tokenizer.to_str())
    # As SentencePiece does: a blank before the text, but not before a part of it.
    pieces = {"type": "Metaspace", "replacement": "Ġ", "prepend_scheme": "first", "split": False}
    (llama / "tokenizer.json").write_text(json.dumps({**text, "normalizer": None, "pre_tokenizer": pieces}))
    with pytest.raises(PipelineError, match="USER: <image>.* has other token ids" + INSTEAD):
        export_llava(train(llama=llama).checkpoint, tmp_path / "model")


def test_a_tokenizer_that_has_an_image_token_is_refused(train: Train, llama: Path, tmp_path: Path) -> None:
    tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(llama)
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    tokenizer.save_pretrained(llama)
    with pytest.raises(PipelineError, match="has a token <image> already" + INSTEAD):
        export_llava(train(llama=llama).checkpoint, tmp_path / "model")


def test_another_language_model_than_that_of_training_is_refused(
    train: Train, llama: Path, tmp_path: Path
) -> None:
    trained = train(llama=llama)
    save_llama(llama, seed=5)
    with pytest.raises(PipelineError, match=r"weights of .* changed since"):
        export_llava(trained.checkpoint, tmp_path / "model")
