"""Exported models: stock transformers says what this project says, token for token.

Run: .venv/bin/python -m pytest tests/unit/export/test_export_captions.py
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoProcessor,
    AutoTokenizer,
    LlavaForConditionalGeneration,
)

from pipeline.errors import PipelineError
from pipeline.export.llava import export_llava
from pipeline.export.projector import export_projector
from pipeline.model.checkpoints import load_checkpoint
from pipeline.params.schema import LoraParams
from tests.export_lab import ASK, LENGTH, Train, Trained, pictures, python_blocks, stock_captions


@pytest.mark.parametrize(
    ("tokens", "layer", "hidden_size"),
    [
        ("patches", -2, 64),
        ("patches", -2, 48),
        ("cls+patches", -2, 64),
        ("patches", -1, 64),
        ("patches", 1, 64),
    ],
)
def test_stock_transformers_say_the_same_token_for_token(
    train: Train, tmp_path: Path, tokens: str, layer: int, hidden_size: int
) -> None:
    trained = train(tokens, layer, hidden_size)
    captions = stock_captions(export_llava(trained.checkpoint, tmp_path / "model"))
    assert captions == trained.captions
    assert len({tuple(caption) for caption in captions}) > 1, "the images make no difference"


def test_an_untied_language_model_says_the_same(train: Train, tiny_llama: Path, tmp_path: Path) -> None:
    llama = shutil.copytree(tiny_llama, tmp_path / "llama")
    model = AutoModelForCausalLM.from_pretrained(llama)
    model.config.tie_word_embeddings = False
    torch.manual_seed(1)
    model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    model.save_pretrained(llama)
    trained = train(llama=llama)
    assert stock_captions(export_llava(trained.checkpoint, tmp_path / "model")) == trained.captions


def test_adapters_are_merged_into_the_weights(train: Train, trained: Trained, tmp_path: Path) -> None:
    adapted = train(lora=LoraParams(rank=2, alpha=4.0, dropout=0.0, targets=("q_proj", "down_proj")))
    assert adapted.captions != trained.captions
    assert stock_captions(export_llava(adapted.checkpoint, tmp_path / "model")) == adapted.captions
    with pytest.raises(PipelineError, match="export the whole model instead"):
        export_projector(adapted.checkpoint, tmp_path / "projector")


def test_adapters_are_merged_into_a_model_in_bfloat16_without_rounding(
    train: Train, tiny_llama: Path, tmp_path: Path
) -> None:
    llama = shutil.copytree(tiny_llama, tmp_path / "llama")
    AutoModelForCausalLM.from_pretrained(llama).to(torch.bfloat16).save_pretrained(llama)
    lora = LoraParams(rank=2, alpha=4.0, dropout=0.0, targets=("q_proj",))
    adapted = train(llama=llama, lora=lora)
    folder = export_llava(adapted.checkpoint, tmp_path / "model")
    assert stock_captions(folder, dtype=torch.float32) == adapted.captions

    name = "model.layers.0.self_attn.q_proj"
    matrices = load_checkpoint(adapted.checkpoint).adapters
    change = 2 * matrices[f"lora.{name}.lora_B.weight"] @ matrices[f"lora.{name}.lora_A.weight"]
    frozen = load_file(llama / "model.safetensors")[f"{name}.weight"]
    assert frozen.dtype == torch.bfloat16
    exported = load_file(folder / "model.safetensors")[f"language_model.{name}.weight"]
    assert torch.allclose(exported, frozen.float() + change, rtol=0, atol=1e-6)
    model = LlavaForConditionalGeneration.from_pretrained(folder)
    assert model.dtype == torch.float32


def test_weights_in_nf4_say_what_training_said_in_nf4(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = train(quantization="nf4")
    folder = export_llava(trained.checkpoint, tmp_path / "model")
    monkeypatch.chdir(folder)
    _, quantized = python_blocks(folder / "README.md")
    names: dict[str, Any] = {}
    exec(quantized, names)
    assert stock_captions(folder, quantization_config=names["quantization"]) == trained.captions
    assert train().captions != trained.captions, "rounding to NF4 makes no difference"


def test_several_images_can_be_captioned_in_one_batch(trained: Trained, exported: Path) -> None:
    model = LlavaForConditionalGeneration.from_pretrained(exported)
    processor = AutoProcessor.from_pretrained(exported)
    prompt = processor.apply_chat_template(ASK, add_generation_prompt=True)
    images = [[picture] for picture in pictures()]
    inputs = processor(images=images, text=[prompt] * 6, return_tensors="pt", padding=True)
    rows = model.generate(**inputs)[:, inputs["input_ids"].shape[1] :].tolist()
    assert [row[: len(caption)] for row, caption in zip(rows, trained.captions, strict=True)] == (
        trained.captions
    )


def test_large_models_are_written_in_shards(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.export.llava._MAX_SHARD", "200KB")
    folder = export_llava(trained.checkpoint, tmp_path / "model")
    assert len(list(folder.glob("model-*-of-*.safetensors"))) > 1
    assert stock_captions(folder) == trained.captions


def test_the_image_token_is_never_the_likeliest_even_where_all_logits_are_negative(
    train: Train, tiny_llama: Path, tmp_path: Path
) -> None:
    """There a row of zeros would win."""
    llama = shutil.copytree(tiny_llama, tmp_path / "llama")
    source = AutoModelForCausalLM.from_pretrained(llama)
    with torch.no_grad():
        source.get_input_embeddings().weight.add_(2.0)
    source.save_pretrained(llama)
    folder = export_llava(train(llama=llama).checkpoint, tmp_path / "model")
    model = LlavaForConditionalGeneration.from_pretrained(folder)
    hidden = torch.cat(
        [torch.randn(1000, 64, generator=torch.Generator().manual_seed(0)), -torch.ones(1, 64)]
    )
    logits = model.lm_head(hidden)  # [1001, V]
    assert (logits[-1] < 0).all()
    assert (logits.argmax(dim=-1) != model.config.image_token_id).all()


def test_generation_is_greedy_and_ends_as_training_did(exported: Path, tiny_llama: Path) -> None:
    generation = json.loads((exported / "generation_config.json").read_text())
    eos = AutoTokenizer.from_pretrained(tiny_llama).eos_token_id
    assert (generation["do_sample"], generation["num_beams"]) == (False, 1)
    assert (generation["eos_token_id"], generation["pad_token_id"]) == ([eos], eos)
    assert generation["max_new_tokens"] == LENGTH + 1


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "image"}],
        [{"type": "image"}, {"type": "text", "text": "Describe this image."}],
        [{"type": "text", "text": "Describe this image."}, {"type": "image_url"}],
        "<image>\nDescribe this image.",
    ],
    ids=["image alone", "image and words", "words first", "one text"],
)
def test_every_way_to_ask_gives_the_prompt_of_training(exported: Path, content: Any) -> None:
    processor = AutoProcessor.from_pretrained(exported)
    chat = [{"role": "user", "content": content}]
    prompt = processor.apply_chat_template(chat, add_generation_prompt=True)
    assert prompt == "<|begin_of_text|>USER: <image>\nDescribe this image.\nASSISTANT:"


def test_a_chat_can_be_tokenized_in_one_step(exported: Path) -> None:
    processor = AutoProcessor.from_pretrained(exported)
    chat = [{"role": "user", "content": [{"type": "image", "image": pictures()[0]}]}]
    at_once = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=True)
    prompt = processor.apply_chat_template(ASK, add_generation_prompt=True)
    apart = processor(images=pictures()[0], text=prompt)
    assert list(at_once["input_ids"][0]) == list(apart["input_ids"][0])


def test_an_answer_stands_behind_the_prompt_as_in_training(exported: Path) -> None:
    processor = AutoProcessor.from_pretrained(exported)
    chat = [*ASK, {"role": "assistant", "content": "a red circle"}]
    assert processor.apply_chat_template(chat) == (
        "<|begin_of_text|>USER: <image>\nDescribe this image.\nASSISTANT: a red circle<|end_of_text|>"
    )


def test_an_instruction_with_quotes_and_braces_stays_as_it_is(train: Train, tmp_path: Path) -> None:
    instruction = "Say \"what\" {{ you }} {% see %} \\n, 'é' \U0001f600"
    folder = export_llava(train(instruction=instruction).checkpoint, tmp_path / "model")
    prompt = AutoProcessor.from_pretrained(folder).apply_chat_template(ASK, add_generation_prompt=True)
    assert prompt == f"<|begin_of_text|>USER: <image>\n{instruction}\nASSISTANT:"
