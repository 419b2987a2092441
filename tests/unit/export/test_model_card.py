"""Model cards: they tell what a checkpoint knows, and nothing from outside becomes markup."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.errors import PipelineError
from pipeline.export.model_card import model_card
from pipeline.files.json_files import write_json
from pipeline.model.checkpoints import CheckpointInfo
from tests.refusals import refusal
from tests.unit.model.test_checkpoints import INFO as TINY

ENCODER = {"name": "openai/clip-vit-base-patch32", "revision": "37000f5", "layer": -2, "tokens": "patches"}
LANGUAGE = {"name": "meta-llama/Llama-3.2-1B", "revision": None, "quantization": "nf4", "dtype": "bfloat16"}
INFO = replace(
    TINY,
    encoder={**ENCODER, "num_tokens": 49, "width": 768},
    tokenizer={"instruction": "Describe this image."},
    language_model={**LANGUAGE, "double_quantization": False},
)
ADAPTED = replace(INFO, lora={"rank": 8, "alpha": 16.0, "targets": ["q_proj", "v_proj"]})
SIMILAR = replace(
    INFO, memory="0123abcd", tokenizer={**INFO.tokenizer, "similar_captions": 4, "similar_tokens": 48}
)
OTHERS = replace(
    INFO,
    encoder={**INFO.encoder, "name": "laion/CLIP-ViT-B-32-laion2B"},
    language_model={**INFO.language_model, "name": "TinyLlama/TinyLlama-1.1B"},
)
SCORES: dict[str, Any] = {
    "best_epoch": 3,
    "training": "fingerprint",
    "test": {"bleu_1": 87.491, "bleu_4": 65.7, "cider": 349.9, "rouge_l": 81.2},
    "controls": {"constant": {"bleu_1": 42.6, "bleu_4": 5.9, "cider": 84.8, "rouge_l": 39.4}},
}


def metadata(text: str) -> dict[str, Any]:
    content: dict[str, Any] = YAML(typ="safe").load(text.split("---\n", 2)[1])
    return content


def scores_file(folder: Path, content: object) -> Path:
    write_json(folder / "evaluate.json", content)
    return folder / "evaluate.json"


def test_metadata_is_that_of_a_model_hub() -> None:
    values = metadata(model_card(INFO, None, None))
    assert (values["pipeline_tag"], values["library_name"]) == ("image-to-text", "transformers")
    assert values["license"] == "other"
    assert values["base_model"] == ["openai/clip-vit-base-patch32", "meta-llama/Llama-3.2-1B"]
    local = replace(INFO, encoder={**INFO.encoder, "name": "/somewhere/private/my-clip"})
    text = model_card(local, None, None)
    assert "my-clip" in text
    assert "private" not in text
    assert metadata(text)["base_model"] == ["meta-llama/Llama-3.2-1B"]


@pytest.mark.parametrize(
    ("info", "dataset", "present", "absent"),
    [
        (INFO, None, "layer -2, patches, 49 tokens of width 768 |", "non-commercial research"),
        (INFO, None, 'bnb_4bit_quant_type="nf4"', "LoRA"),
        (INFO, None, "**Built with Llama.**", "see its publisher's terms"),
        (INFO, None, "OpenAI's CLIP is under the MIT license", "Apache"),
        (INFO, "flickr8k", "non-commercial research", "not recorded"),
        (INFO, "jxie/flickr8k", "| images | Flickr8k \\(Hodosh et al. 2013\\) |", "jxie"),
        (ADAPTED, None, "| LoRA adapters | rank 8, alpha 16.0, in q\\_proj, v\\_proj |", "(frozen). The"),
        (ADAPTED, None, "would round the adapters too", "bnb_4bit"),
        (INFO, None, "| epoch | 3 |", "memory of captions"),
        (SIMILAR, None, "| memory of captions | 0123abcd (SHA-256) |", "LoRA"),
        (SIMILAR, None, "up to 4 captions of similar images", "LoRA"),
        (OTHERS, None, "TinyLlama-1.1B: see its publisher's terms", "Built with Llama"),
        (OTHERS, None, "laion2B: see its publisher's terms", "MIT"),
    ],
)
def test_a_card_tells_what_is_so_and_nothing_else(
    info: CheckpointInfo, dataset: str | None, present: str, absent: str
) -> None:
    text = model_card(info, None, dataset)
    assert present in text
    assert absent not in text


def test_scores_stand_next_to_their_controls(tmp_path: Path) -> None:
    text = model_card(INFO, scores_file(tmp_path, SCORES), None)
    assert "| the model | 87.49 | 65.70 | 349.90 | 81.20 |" in text
    assert "| one caption for all | 42.60 | 5.90 | 84.80 | 39.40 |" in text
    assert "images shuffled" not in text, "there is no such control in these scores"


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({**SCORES, "best_epoch": 2}, "epoch 2, not 3"),
        ({**SCORES, "training": "of another run"}, "another training run"),
    ],
)
def test_scores_of_another_checkpoint_are_refused(tmp_path: Path, content: object, named: str) -> None:
    refusal(model_card, INFO, scores_file(tmp_path, content), None, match=rf"evaluate\.json .*{named}")


@pytest.mark.parametrize("absent", SCORES)
def test_scores_that_are_not_complete_are_refused(tmp_path: Path, absent: str) -> None:
    content = {key: value for key, value in SCORES.items() if key != absent}
    with pytest.raises(PipelineError, match=rf"evaluate\.json is not complete \(KeyError: '{absent}'\)"):
        model_card(INFO, scores_file(tmp_path, content), None)


def test_nothing_from_outside_becomes_markup() -> None:
    evil = "x](https://evil) <script>alert(1)</script> | `code` **bold** www.evil a@b\n---\n# Heading\n---"
    info = replace(
        INFO,
        encoder={**INFO.encoder, "revision": evil},
        tokenizer={**INFO.tokenizer, "instruction": evil},
        language_model={**INFO.language_model, "name": evil, "revision": evil},
    )
    text, harmless = model_card(info, None, evil), model_card(INFO, None, None)
    live = ["<script>", "](https", "https://evil", "\n# Head", " | `code`", " **bold**", " www.evil", "a@b"]
    assert [markup for markup in live if markup in text] == []
    assert text.count("\n---\n") == harmless.count("\n---\n")
    assert set(metadata(text)) == set(metadata(harmless))
