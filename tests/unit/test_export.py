"""Exported models: stock transformers says what this project says, or the export refuses in a sentence.

Run: .venv/bin/python -m pytest tests/unit/test_export.py
"""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tokenizers import processors
from transformers import (
    AutoModelForCausalLM,
    AutoProcessor,
    AutoTokenizer,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from pipeline.adapters import adapter_facts, inject_adapters
from pipeline.caption_model import CaptionModel
from pipeline.checkpoints import CheckpointInfo, load_checkpoint, save_checkpoint
from pipeline.device import choose_placement
from pipeline.encoder import load_encoder
from pipeline.errors import PipelineError
from pipeline.export import export_llava, export_projector
from pipeline.generation import generate_ids
from pipeline.language_model import load_language_model
from pipeline.params import EncoderParams, GenerateParams, LanguageModelParams, LoraParams, PromptParams
from pipeline.projector import Projector
from pipeline.prompt import CaptionTokenizer
from tests.tiny_models import save_llama

CPU = choose_placement("cpu")
LENGTH = 12
GREEDY = GenerateParams(beams=1, max_new_tokens=LENGTH + 1, length_penalty=1.0, no_repeat_ngram_size=0)
NO_LORA = LoraParams(rank=0, alpha=16.0, dropout=0.0, targets=())
PROMPT = PromptParams("Describe this image.", lowercase=True, max_caption_tokens=LENGTH)
ASK = [{"role": "user", "content": [{"type": "image"}]}]
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Trained:
    """A checkpoint, and the token ids of its greedy captions of `pictures()`, ended by EOS."""

    checkpoint: Path
    captions: list[list[int]]


Train = Callable[..., Trained]


def pictures() -> list[Image.Image]:
    """Six pictures of different sizes and shapes."""
    noise = np.random.default_rng(0)
    small = [noise.integers(0, 256, (3 + i, 4, 3), dtype=np.uint8) for i in range(6)]
    return [Image.fromarray(pixels).resize((40 + 9 * i, 50)) for i, pixels in enumerate(small)]


@pytest.fixture(scope="module")
def train(tiny_clip: Path, tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Makes a checkpoint with a random projector, standardised as training does."""

    def make(
        tokens: str = "patches",
        layer: int = -2,
        hidden_size: int = 48,
        quantization: str = "none",
        grid: int | None = None,
        llama: Path = tiny_llama,
        instruction: str = PROMPT.instruction,
        lora: LoraParams = NO_LORA,
    ) -> Trained:
        encoder = load_encoder(EncoderParams(str(tiny_clip), None, layer, tokens, grid), CPU.device)  # type: ignore[arg-type]
        language_params = LanguageModelParams(str(llama), None, quantization, double_quantization=False)  # type: ignore[arg-type]
        language = load_language_model(language_params, CPU)
        tokenizer = CaptionTokenizer(replace(PROMPT, instruction=instruction), language_params)
        pixels = torch.stack([encoder.preprocess(picture) for picture in pictures()])
        features = encoder.encode(pixels).half()  # [6, P, D_v], as the feature store keeps them
        torch.manual_seed(0)
        projector = Projector(encoder.spec.width, hidden_size, language.width)
        projector.standardize(features.float())
        projector.scale_output(features.float(), language.embedding_norm())
        info = CheckpointInfo(
            epoch=2,
            encoder=encoder.spec.as_dict(),
            tokenizer=tokenizer.spec.as_dict(),
            language_model=language.spec.as_dict(),
            hidden_size=hidden_size,
            width_out=language.width,
            train={"learning_rate": 1e-3, "schedule": "constant"},
            training="fingerprint",
            longest_caption=LENGTH + 1,
            lora=adapter_facts(lora),
        )
        adapters = inject_adapters(language, lora)
        for matrix in adapters.parameters():
            torch.nn.init.normal_(matrix, std=0.3)  # fresh ones would change nothing
        checkpoint = tmp_path_factory.mktemp("trained") / "best.safetensors"
        model = CaptionModel(projector, language, tokenizer.prompt, adapters)
        save_checkpoint(checkpoint, model.trainable_state(), info)
        captions = [
            [*one.ids, tokenizer.prompt.eos] if one.finished else list(one.ids)
            for one in generate_ids(model, features, GREEDY, batch_size=6)
        ]
        return Trained(checkpoint, captions)

    return make


@pytest.fixture(scope="module")
def trained(train: Train) -> Trained:
    return train()


@pytest.fixture(scope="module")
def exported(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_llava(trained.checkpoint, tmp_path_factory.mktemp("exported") / "model")


def stock_captions(folder: Path, **options: Any) -> list[list[int]]:
    """Greedy captions of `pictures()` by transformers alone, as a stranger would ask for them."""
    model, report = LlavaForConditionalGeneration.from_pretrained(folder, output_loading_info=True, **options)
    assert not any(report.values()), report
    processor = AutoProcessor.from_pretrained(folder)
    prompt = processor.apply_chat_template(ASK, add_generation_prompt=True)
    captions = []
    for picture in pictures():
        inputs = processor(images=picture, text=prompt, return_tensors="pt")
        captions.append(model.generate(**inputs)[0, inputs["input_ids"].shape[1] :].tolist())
    return captions


def refit(checkpoint: Path, target: Path, **facts: Any) -> Path:
    """The same checkpoint with other facts."""
    kept = load_checkpoint(checkpoint)
    save_checkpoint(target, kept.projector.state_dict(), replace(kept.info, **facts))
    return target


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S)


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


def test_no_file_says_where_this_machine_keeps_its_models(
    exported: Path, trained: Trained, tiny_clip: Path, tmp_path: Path
) -> None:
    export_projector(trained.checkpoint, tmp_path / "projector")
    for path in [*exported.rglob("*"), *(tmp_path / "projector").iterdir()]:
        assert str(tiny_clip.parent.parent).encode() not in path.read_bytes(), path


def test_nothing_is_pickled_and_everything_is_readable(exported: Path) -> None:
    names = {path.name for path in exported.iterdir()}
    assert names == {
        "README.md",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert len({path.stat().st_mode for path in exported.iterdir()}) == 1


def test_licence_files_of_the_parts_are_handed_on(train: Train, tiny_llama: Path, tmp_path: Path) -> None:
    llama = shutil.copytree(tiny_llama, tmp_path / "llama")
    (llama / "LICENSE.txt").write_text("terms")
    folder = export_llava(train(llama=llama).checkpoint, tmp_path / "model")
    assert (folder / "licences" / "language-model" / "LICENSE.txt").read_text() == "terms"


def test_a_folder_of_licences_is_no_licence_file(train: Train, tiny_llama: Path, tmp_path: Path) -> None:
    llama = shutil.copytree(tiny_llama, tmp_path / "llama")
    (llama / "LICENSES").mkdir()
    (llama / "NOTICE").write_text("notice")
    folder = export_llava(train(llama=llama).checkpoint, tmp_path / "model")
    assert [path.name for path in (folder / "licences" / "language-model").iterdir()] == ["NOTICE"]


def test_an_empty_folder_is_filled_and_a_full_one_refused(trained: Trained, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    export_projector(trained.checkpoint, empty)
    assert (empty / "README.md").exists()
    before = {path: path.read_bytes() for path in empty.iterdir()}
    for export in (export_projector, export_llava):
        with pytest.raises(PipelineError, match="is not empty; give the name of a new or empty folder"):
            export(trained.checkpoint, empty)
    assert {path: path.read_bytes() for path in empty.iterdir()} == before


def test_a_file_is_not_overwritten(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(PipelineError, match="is a file"):
        export_projector(trained.checkpoint, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_failed_export_leaves_nothing_but_its_lock(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pipeline.export.folder.save_file", full_disk)
    with pytest.raises(PipelineError, match=r"cannot write .*model: No space left on device"):
        export_llava(trained.checkpoint, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == [".model.lock"]


def test_a_file_that_cannot_be_read_is_not_called_unwritable(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        (tmp_path / "nowhere" / "config.json").read_bytes()

    monkeypatch.setattr("pipeline.export.llava.load_parts", refuse)
    with pytest.raises(PipelineError, match=r"cannot read .*nowhere/config\.json: No such file"):
        export_llava(trained.checkpoint, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == [".model.lock"]


def test_the_projector_alone_computes_what_training_did(train: Train, tmp_path: Path) -> None:
    """Standardisation is folded in, and a narrow hidden layer filled up; features far from zero show it."""
    for hidden_size in (48, 64, 80):
        checkpoint = train(hidden_size=hidden_size).checkpoint
        projector = load_checkpoint(checkpoint).projector
        folder = export_projector(checkpoint, tmp_path / str(hidden_size))
        weights = load_file(folder / "mm_projector.safetensors")
        assert set(weights) == {
            f"model.mm_projector.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")
        }
        assert weights["model.mm_projector.0.weight"].shape == (max(hidden_size, 64), 32)
        features = torch.randn(5, 32, generator=torch.Generator().manual_seed(0)) + 3
        hidden = torch.nn.functional.gelu(
            features @ weights["model.mm_projector.0.weight"].T + weights["model.mm_projector.0.bias"]
        )
        output = hidden @ weights["model.mm_projector.2.weight"].T + weights["model.mm_projector.2.bias"]
        assert torch.allclose(output, projector(features), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("tokens", "grid", "select"),
    [
        ("patches", None, "patch"),
        ("cls+patches", None, "cls_patch"),
        ("mean", None, "mean"),
        ("patches", 2, "patches averaged onto 2x2"),
    ],
)
def test_the_projectors_configuration_has_llavas_words(
    train: Train, tmp_path: Path, tokens: str, grid: int | None, select: str
) -> None:
    folder = export_projector(train(tokens, grid=grid).checkpoint, tmp_path / "projector")
    config = json.loads((folder / "config.json").read_text())
    assert config["mm_projector_type"] == "mlp2x_gelu"
    assert (config["mm_hidden_size"], config["hidden_size"]) == (32, 64)
    assert config["mm_vision_tower"] == "tiny-clip"
    assert (config["mm_vision_select_layer"], config["mm_vision_select_feature"]) == (-2, select)


def test_the_cards_code_runs_and_says_the_caption(
    trained: Trained,
    exported: Path,
    tiny_llama: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = shutil.copytree(exported, tmp_path / "model")
    pictures()[0].save(folder / "photo.jpg", format="PNG")  # without loss, whatever it is called
    monkeypatch.chdir(folder)
    (code,) = python_blocks(folder / "README.md")
    exec(code, {})
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    expected = tokenizer.decode(trained.captions[0], skip_special_tokens=True).strip()
    assert capsys.readouterr().out.strip() == expected


def test_the_projector_cards_code_runs(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(export_projector(trained.checkpoint, tmp_path / "projector"))
    (code,) = python_blocks(Path("README.md"))
    names: dict[str, Any] = {}
    exec(code, names)
    projector = load_checkpoint(trained.checkpoint).projector
    features = torch.randn(3, 32)
    assert torch.allclose(names["projector"](features), projector(features), rtol=1e-4, atol=1e-5)


def test_the_serving_pages_code_runs(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = dict.fromkeys(("bleu_1", "bleu_4", "cider", "rouge_l"), 1.0)
    evaluation = {
        "best_epoch": 2,
        "training": "fingerprint",
        "images": {"test": 6},
        "test": scores,
        "controls": {},
    }
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "evaluate.json").write_text(json.dumps(evaluation))
    (tmp_path / "data").mkdir()
    shutil.copy(trained.checkpoint, tmp_path / "data" / "best.safetensors")
    pictures()[0].save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    exporting, captioning = python_blocks(ROOT / "docs" / "serving.md")
    exec(exporting, {})
    assert "1.00" in Path("export/llava/README.md").read_text()
    capsys.readouterr()
    exec(captioning, {})
    assert capsys.readouterr().out.strip()
