"""Exported models: stock transformers says what this project says, token for token."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import processors
from transformers import AutoModelForCausalLM, AutoProcessor, AutoTokenizer, LlavaForConditionalGeneration

from pipeline.export.llava import export_llava
from pipeline.model.checkpoints import load_checkpoint
from pipeline.params.schema import LoraParams
from tests.import_closure import ROOT
from tests.pages import python_blocks
from tests.tiny_captioner import save_scores
from tests.unit.export.conftest import ASK, LENGTH, Train, Trained, pictures, stock_captions


@pytest.mark.parametrize(
    ("tokens", "layer", "hidden_size"), [("patches", -2, 48), ("cls+patches", -1, 64), ("patches", 1, 64)]
)
def test_stock_transformers_say_the_same_token_for_token(
    train: Train, tmp_path: Path, tokens: str, layer: int, hidden_size: int
) -> None:
    trained = train(hidden_size, tokens=tokens, layer=layer)
    captions = stock_captions(export_llava(trained.checkpoint, tmp_path / "model"))
    assert captions == trained.captions
    assert len(set(map(tuple, captions))) > 1, "the images make no difference"


def untie(llama: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(llama)
    model.config.tie_word_embeddings = False
    torch.manual_seed(2)
    model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    model.save_pretrained(llama)


def let_the_tokenizer_add_bos(llama: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(llama)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 0)]
    )
    tokenizer.save_pretrained(llama)
    assert AutoTokenizer.from_pretrained(llama)("a")["input_ids"][0] == 0


@pytest.mark.parametrize("change", [untie, let_the_tokenizer_add_bos])
def test_other_language_models_say_the_same(
    train: Train, llama: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    change(llama)
    trained = train(llama=llama)
    assert stock_captions(export_llava(trained.checkpoint, tmp_path / "model")) == trained.captions


def test_adapters_are_merged_into_a_model_in_bfloat16_without_rounding(
    train: Train, trained: Trained, llama: Path, tmp_path: Path
) -> None:
    AutoModelForCausalLM.from_pretrained(llama).to(torch.bfloat16).save_pretrained(llama)
    lora = LoraParams(rank=2, alpha=4.0, dropout=0.0, targets=("q_proj", "down_proj"))
    adapted = train(llama=llama, lora=lora)
    folder = export_llava(adapted.checkpoint, tmp_path / "model")
    assert stock_captions(folder, dtype=torch.float32) == adapted.captions != trained.captions

    name = "model.layers.0.self_attn.q_proj"
    matrices = load_checkpoint(adapted.checkpoint).adapters
    change = 2 * matrices[f"lora.{name}.lora_B.weight"] @ matrices[f"lora.{name}.lora_A.weight"]
    frozen = load_file(llama / "model.safetensors")[f"{name}.weight"]
    assert frozen.dtype == torch.bfloat16
    exported = load_file(folder / "model.safetensors")[f"language_model.{name}.weight"]
    assert torch.allclose(exported, frozen.float() + change, rtol=0, atol=1e-6)


def test_weights_in_nf4_say_what_training_said_in_nf4(
    train: Train, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where a CPU has bfloat16, bitsandbytes computes in it, which rounds otherwise.
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: False)
    in_nf4 = train(quantization="nf4")
    folder = export_llava(in_nf4.checkpoint, tmp_path / "model")
    _, quantized = python_blocks(folder / "README.md")
    names: dict[str, Any] = {}
    exec(quantized, names)
    assert stock_captions(folder, quantization_config=names["quantization"]) == in_nf4.captions
    assert trained.captions != in_nf4.captions, "rounding to NF4 makes no difference"


def test_several_images_can_be_captioned_in_one_batch(trained: Trained, exported: Path) -> None:
    model = LlavaForConditionalGeneration.from_pretrained(exported)
    processor = AutoProcessor.from_pretrained(exported)
    prompt = processor.apply_chat_template(ASK, add_generation_prompt=True)
    images = [[picture] for picture in pictures()]
    inputs = processor(images=images, text=[prompt] * 6, return_tensors="pt", padding=True)
    rows = model.generate(**inputs)[:, inputs["input_ids"].shape[1] :].tolist()
    assert [row[: len(ids)] for row, ids in zip(rows, trained.captions, strict=True)] == trained.captions


def test_the_image_token_is_never_the_likeliest(train: Train, llama: Path, tmp_path: Path) -> None:
    """Where all logits are negative a row of zeros would win."""
    source = AutoModelForCausalLM.from_pretrained(llama)
    with torch.no_grad():
        source.get_input_embeddings().weight.add_(2.0)
    source.save_pretrained(llama)
    folder = export_llava(train(llama=llama).checkpoint, tmp_path / "model")
    model = LlavaForConditionalGeneration.from_pretrained(folder)
    noise = torch.randn(1000, 64, generator=torch.Generator().manual_seed(0))
    logits = model.lm_head(torch.cat([noise, -torch.ones(1, 64)]))  # [1001, V]
    assert (logits[-1] < 0).all()
    assert (logits.argmax(dim=-1) != model.config.image_token_id).all()


def test_generation_has_the_ends_and_no_other_rule_of_the_language_model(
    train: Train, trained: Trained, llama: Path, tmp_path: Path
) -> None:
    """Instruction models name several ends in generation_config.json, their tokenizer only one of them."""
    eos, other, word = AutoTokenizer.from_pretrained(llama).eos_token_id, *trained.captions[0][3:5]
    rules = {"eos_token_id": [eos, other], "repetition_penalty": 3.0, "suppress_tokens": [word]}
    (llama / "generation_config.json").write_text(json.dumps(rules))
    ruled = train(llama=llama)
    # What changes after training changes no end.
    (llama / "generation_config.json").write_text(json.dumps({**rules, "eos_token_id": [eos, word]}))
    folder = export_llava(ruled.checkpoint, tmp_path / "model")
    config = json.loads((folder / "generation_config.json").read_text())
    assert (config["eos_token_id"], config["pad_token_id"]) == ([eos, other], eos)
    assert (config["do_sample"], config["num_beams"], config["max_new_tokens"]) == (False, 1, LENGTH + 1)
    assert "repetition_penalty" not in config
    assert word not in config["suppress_tokens"]
    captions = stock_captions(folder)
    # `Trained` has the project's ids before the end, whichever it was, and then EOS.
    assert [[eos if token == other else token for token in caption] for caption in captions] == ruled.captions
    assert any(other in caption for caption in captions)


def test_every_way_to_ask_gives_the_prompt_of_training(exported: Path) -> None:
    image, words = {"type": "image"}, {"type": "text", "text": "Describe this image."}
    processor = AutoProcessor.from_pretrained(exported)
    for content in ([image], [words, {"type": "image_url"}], "<image>\nDescribe this image."):
        chat = [{"role": "user", "content": content}]
        prompt = processor.apply_chat_template(chat, add_generation_prompt=True)
        assert prompt == "<|begin_of_text|>USER: <image>\nDescribe this image.\nASSISTANT:"
        answered = processor.apply_chat_template([*chat, {"role": "assistant", "content": "a red circle"}])
        assert answered == f"{prompt} a red circle<|end_of_text|>"


def test_an_instruction_with_quotes_and_braces_stays_as_it_is(train: Train, tmp_path: Path) -> None:
    instruction = "Say \"what\" {{ you }} {% see %} \\n, 'é' \U0001f600"
    folder = export_llava(train(instruction=instruction).checkpoint, tmp_path / "model")
    prompt = AutoProcessor.from_pretrained(folder).apply_chat_template(ASK, add_generation_prompt=True)
    assert prompt == f"<|begin_of_text|>USER: <image>\n{instruction}\nASSISTANT:"


def test_the_code_of_the_serving_page_and_of_the_card_runs(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    evaluation = Path("metrics/evaluate.json")
    save_scores(evaluation)
    Path("data").mkdir()
    shutil.copy(trained.checkpoint, "data/best.safetensors")
    pictures()[0].save("photo.jpg", format="PNG")  # without loss, whatever it is called
    projecting, captioning = python_blocks(ROOT / "docs" / "serving.md")
    exported = export_llava(Path("data/best.safetensors"), Path("export/llava"), evaluation=evaluation)
    card = exported / "README.md"
    assert "12.50" in card.read_text()
    names: dict[str, Any] = {}
    exec(projecting, names)
    features = torch.randn(3, 32)
    assert torch.allclose(names["embed"](features), load_checkpoint(trained.checkpoint).projector(features))
    tokenizer = AutoTokenizer.from_pretrained(card.parent)
    expected = tokenizer.decode(trained.captions[0], skip_special_tokens=True).strip()
    capsys.readouterr()
    exec(captioning, {})
    assert capsys.readouterr().out.strip() == expected
    shutil.copy("photo.jpg", card.parent)
    (code,) = python_blocks(card)
    monkeypatch.chdir(card.parent)
    exec(code, {})
    assert capsys.readouterr().out.strip() == expected
