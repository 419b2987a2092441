"""What cannot be exported to the same captions is refused in a sentence.

Run: .venv/bin/python -m pytest tests/unit/export/test_export_refusals.py
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import processors
from transformers import (
    AutoTokenizer,
    PreTrainedTokenizerFast,
)

from pipeline.errors import PipelineError
from pipeline.export.llava import export_llava
from pipeline.model.checkpoints import load_checkpoint, save_checkpoint
from tests.export_lab import Train, Trained, stock_captions
from tests.tiny_models import save_llama


def refit(checkpoint: Path, target: Path, **facts: Any) -> Path:
    """The same checkpoint with other facts."""
    kept = load_checkpoint(checkpoint)
    save_checkpoint(target, kept.projector.state_dict(), replace(kept.info, **facts))
    return target


def test_a_tokenizer_that_adds_bos_by_itself_does_not_add_a_second(
    train: Train, tiny_llama: Path, tmp_path: Path
) -> None:
    llama = shutil.copytree(tiny_llama, tmp_path / "llama")
    tokenizer = AutoTokenizer.from_pretrained(llama)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 0)]
    )
    tokenizer.save_pretrained(llama)
    assert AutoTokenizer.from_pretrained(llama)("a")["input_ids"][0] == 0
    trained = train(llama=llama)
    assert stock_captions(export_llava(trained.checkpoint, tmp_path / "model")) == trained.captions


def test_a_tokenizer_that_reads_a_text_in_one_piece_otherwise_is_refused(
    train: Train, tiny_llama: Path, tmp_path: Path
) -> None:
    llama = shutil.copytree(tiny_llama, tmp_path / "llama")
    tokenizer = AutoTokenizer.from_pretrained(llama)
    text = json.loads(tokenizer.backend_tokenizer.to_str())
    # As SentencePiece does: a blank before the text, but not before a part of it.
    text["normalizer"] = None
    text["pre_tokenizer"] = {
        "type": "Metaspace",
        "replacement": "Ġ",
        "prepend_scheme": "first",
        "split": False,
    }
    (llama / "tokenizer.json").write_text(json.dumps(text))
    with pytest.raises(PipelineError, match=r"becomes the token ids .* but training used"):
        export_llava(train(llama=llama).checkpoint, tmp_path / "model")


def test_a_tokenizer_that_has_an_image_token_is_refused(
    train: Train, tiny_llama: Path, tmp_path: Path
) -> None:
    llama = shutil.copytree(tiny_llama, tmp_path / "llama")
    tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(llama)
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    tokenizer.save_pretrained(llama)
    with pytest.raises(PipelineError, match="has a token <image> already"):
        export_llava(train(llama=llama).checkpoint, tmp_path / "model")


@pytest.mark.parametrize(("tokens", "grid"), [("cls", None), ("mean", None), ("patches", 2)])
def test_tokens_that_llava_does_not_know_are_refused(
    train: Train, tmp_path: Path, tokens: str, grid: int | None
) -> None:
    with pytest.raises(PipelineError, match=r"exportable to LLaVA's format: a CLIP encoder with"):
        export_llava(train(tokens, grid=grid).checkpoint, tmp_path / "model")


@pytest.mark.parametrize("name", ["wheel:efficientnet-lite0", "tiny-llama"])
def test_encoders_other_than_clip_are_refused(
    trained: Trained, tiny_llama: Path, tmp_path: Path, name: str
) -> None:
    info = load_checkpoint(trained.checkpoint).info
    encoder = {**info.encoder, "name": str(tiny_llama) if name == "tiny-llama" else name}
    checkpoint = refit(trained.checkpoint, tmp_path / "other.safetensors", encoder=encoder)
    with pytest.raises(PipelineError, match="is no CLIP model"):
        export_llava(checkpoint, tmp_path / "model")


def test_a_hidden_layer_wider_than_the_language_model_is_refused(train: Train, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"train with projector\.hidden_size of at most 64"):
        export_llava(train(hidden_size=65).checkpoint, tmp_path / "model")


def test_another_language_model_than_that_of_training_is_refused(
    train: Train, tiny_llama: Path, tmp_path: Path
) -> None:
    llama = shutil.copytree(tiny_llama, tmp_path / "llama")
    trained = train(llama=llama)
    save_llama(llama, seed=5)
    with pytest.raises(PipelineError, match="was trained with weights"):
        export_llava(trained.checkpoint, tmp_path / "model")


def test_a_caption_ends_at_any_token_that_ended_it_here(
    train: Train, trained: Trained, tiny_llama: Path, tmp_path: Path
) -> None:
    """Instruction models name several ends in generation_config.json, their tokenizer only one of them."""
    llama = shutil.copytree(tiny_llama, tmp_path / "llama")
    eos = AutoTokenizer.from_pretrained(llama).eos_token_id
    other = trained.captions[0][3]
    (llama / "generation_config.json").write_text(json.dumps({"eos_token_id": [eos, other]}))
    ended = train(llama=llama)
    folder = export_llava(ended.checkpoint, tmp_path / "model")
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == [eos, other]
    stock = stock_captions(folder)
    # `Trained` has the project's ids before the end, whichever it was, and then EOS.
    assert [[eos if token == other else token for token in caption] for caption in stock] == ended.captions
    assert any(other in caption for caption in stock)


def test_rules_that_this_project_does_not_search_by_are_left_out(
    train: Train, trained: Trained, tiny_llama: Path, tmp_path: Path
) -> None:
    llama = shutil.copytree(tiny_llama, tmp_path / "llama")
    said = sorted({token for caption in trained.captions for token in caption})
    rules = {
        "repetition_penalty": 3.0,
        "no_repeat_ngram_size": 1,
        "suppress_tokens": said[:3],
        "bad_words_ids": [[token] for token in said[3:6]],
        "temperature": 0.6,
    }
    (llama / "generation_config.json").write_text(json.dumps(rules))
    ruled = train(llama=llama)
    folder = export_llava(ruled.checkpoint, tmp_path / "model")
    assert stock_captions(folder) == ruled.captions
    kept = json.loads((folder / "generation_config.json").read_text())
    assert rules.keys() & kept.keys() == {"suppress_tokens"}
    assert not set(said[:3]) & set(kept["suppress_tokens"])
