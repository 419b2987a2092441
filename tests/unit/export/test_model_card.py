"""Model cards: they tell what a checkpoint knows, and nothing from outside becomes markup.

Run: .venv/bin/python -m pytest tests/unit/export/test_model_card.py
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.errors import PipelineError
from pipeline.export.model_card import CardFacts, model_card
from pipeline.model.checkpoints import CheckpointInfo

INFO = CheckpointInfo(
    epoch=3,
    encoder={
        "name": "openai/clip-vit-base-patch32",
        "revision": "37000f5",
        "weights": "abc",
        "layer": -2,
        "tokens": "patches",
        "grid": None,
        "image_size": 224,
        "preprocessing": "def",
        "num_tokens": 49,
        "width": 768,
    },
    tokenizer={
        "instruction": "Describe this image.",
        "lowercase": True,
        "strip_period": True,
        "max_caption_tokens": 48,
    },
    language_model={
        "name": "meta-llama/Llama-3.2-1B",
        "revision": None,
        "weights": "ghi",
        "quantization": "nf4",
        "double_quantization": False,
        "dtype": "bfloat16",
    },
    hidden_size=2048,
    width_out=2048,
    train={"learning_rate": 1e-3, "schedule": "constant"},
    training="fingerprint",
    features="123",
    tokens="456",
    longest_caption=49,
)
SCORES = {
    "best_epoch": 3,
    "training": "fingerprint",
    "images": {"dev": 4, "test": 6},
    "test": {"bleu_1": 87.491, "bleu_4": 65.7, "cider": 349.9, "rouge_l": 81.2},
    "controls": {
        "constant": {"bleu_1": 42.6, "bleu_4": 5.9, "cider": 84.8, "rouge_l": 39.4},
        "nearest": {"bleu_1": 78.0, "bleu_4": 51.1, "cider": 231.8, "rouge_l": 71.9},
    },
}


def card(info: CheckpointInfo = INFO, **facts: Any) -> str:
    return model_card(
        CardFacts(**{"kind": "llava", "evaluation": None, "dataset": None, "info": info, **facts})
    )


def metadata(text: str) -> dict[str, Any]:
    _, header, _ = text.split("---\n", 2)
    content: dict[str, Any] = YAML(typ="safe").load(header)
    return content


def test_the_metadata_is_what_a_hub_reads() -> None:
    facts = metadata(card())
    assert facts["pipeline_tag"] == "image-to-text"
    assert facts["library_name"] == "transformers"
    assert facts["license"] == "other"
    assert facts["base_model"] == ["openai/clip-vit-base-patch32", "meta-llama/Llama-3.2-1B"]
    assert metadata(card(kind="projector"))["library_name"] == "llava"


def test_recipe_and_epoch_are_those_of_the_checkpoint() -> None:
    text = card()
    for row in (
        "| learning\\_rate | 0.001 |",
        "| epoch | 3 |",
        "| features | layer -2, patches, 49 tokens of width 768 |",
    ):
        assert row in text
    assert "768 → 2048 → 2048" in text


def test_scores_stand_beside_their_controls() -> None:
    text = card(evaluation=SCORES)
    assert "| the model | 87.49 | 65.70 | 349.90 | 81.20 |" in text
    assert "| one caption for all | 42.60 | 5.90 | 84.80 | 39.40 |" in text
    assert "images shuffled" not in text, "there is no such control in these scores"
    assert "On the 6 test images" in text
    assert "None were given" in card()


def test_scores_of_another_epoch_or_without_values_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "evaluate.json"
    path.write_text(json.dumps(SCORES))
    assert CardFacts.read("llava", INFO, path, None).evaluation == SCORES
    with pytest.raises(PipelineError, match="scores of epoch 3, but the checkpoint is epoch 2"):
        CardFacts.read("llava", replace(INFO, epoch=2), path, None)
    for training in ("of another run", None):
        path.write_text(json.dumps({**SCORES, "training": training}))
        with pytest.raises(PipelineError, match=r"of another training run than the checkpoint's; run"):
            CardFacts.read("llava", INFO, path, None)
    path.write_text("[]")
    with pytest.raises(PipelineError, match="holds no scores"):
        CardFacts.read("llava", INFO, path, None)
    for damaged in ({**SCORES, "test": {"bleu_1": 1.0}}, {**SCORES, "controls": None}, {"best_epoch": 3}):
        with pytest.raises(PipelineError, match="the scores lack a value"):
            card(evaluation=damaged)


def test_the_licences_of_the_parts_are_named() -> None:
    text = card(dataset="flickr8k")
    assert "**Built with Llama.**" in text
    assert "Llama Community License" in text
    assert "OpenAI's CLIP is under the MIT licence" in text
    assert "non-commercial research" in text


def test_flickr8k_from_the_hub_has_the_terms_of_flickr8k_and_other_datasets_their_name() -> None:
    text = card(dataset="jxie/flickr8k")
    assert "| images | Flickr8k \\(Hodosh et al. 2013\\) |" in text
    assert "non-commercial research" in text
    other = card(dataset="someone/pictures")
    assert "| images | someone/pictures |" in other
    assert "non-commercial research" not in other
    assert "a dataset of the Hugging Face hub" in card(dataset="hub")


def test_adapters_are_told_where_there_were_any() -> None:
    lora = {"rank": 8, "alpha": 16.0, "targets": ["q_proj", "v_proj"]}
    text = card(replace(INFO, lora=lora))
    assert "Only the projector was trained" not in text
    assert "rank 8, in q\\_proj, v\\_proj" in text
    assert "| LoRA adapters | rank 8, alpha 16.0, in q\\_proj, v\\_proj |" in text
    assert "Only the projector was trained" in card()
    assert "LoRA" not in card()


def test_rounding_merged_weights_is_not_recommended() -> None:
    text = card(replace(INFO, lora={"rank": 8, "alpha": 16.0, "targets": ["q_proj"]}))
    assert "bnb_4bit" not in text
    assert "would round the adapters too" in text


def test_other_peoples_models_get_no_licence_of_metas_or_openais() -> None:
    encoder = {**INFO.encoder, "name": "laion/CLIP-ViT-B-32-laion2B"}
    language = {**INFO.language_model, "name": "TinyLlama/TinyLlama-1.1B"}
    text = card(replace(INFO, encoder=encoder, language_model=language))
    assert "Built with Llama" not in text
    assert "MIT" not in text
    assert text.count("see its publisher's terms") == 2


def test_quantization_is_told_where_there_was_one() -> None:
    assert 'bnb_4bit_quant_type="nf4"' in card()
    plain = replace(INFO, language_model={**INFO.language_model, "quantization": "none"})
    assert "NF4" not in card(plain, evaluation=SCORES)


@pytest.mark.parametrize("kind", ["llava", "projector"])
def test_nothing_from_outside_becomes_markup(kind: str) -> None:
    evil = (
        "x](https://evil.example) <script>alert(1)</script> | `code` **bold** www.evil.example a@b.example\n"
        "---\n# Heading\n---"
    )
    info = replace(
        INFO,
        encoder={**INFO.encoder, "revision": evil},
        tokenizer={**INFO.tokenizer, "instruction": evil},
        language_model={**INFO.language_model, "name": evil, "revision": evil},
        train={evil: evil},
    )
    text = card(info, kind=kind, dataset=evil)
    for live in (
        "<script>",
        "](https",
        "https://evil",
        "\n# Heading",
        " | `code`",
        " **bold**",
        " www.evil",
        "a@b",
    ):
        assert live not in text, live
    assert text.count("\n---\n") == card(kind=kind).count("\n---\n")
    assert set(metadata(text)) == set(metadata(card(kind=kind)))


def test_a_local_folder_is_named_without_its_place() -> None:
    encoder = {**INFO.encoder, "name": "/home/anna/models/my-clip"}
    text = card(replace(INFO, encoder=encoder))
    assert "my-clip" in text
    assert "anna" not in text
    assert metadata(text)["base_model"] == ["meta-llama/Llama-3.2-1B"]
