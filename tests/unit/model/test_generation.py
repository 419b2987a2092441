"""Generation: a caption depends on its image alone, and is the one that `transformers` finds.

Run: .venv/bin/python -m pytest tests/unit/model/test_generation.py
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipeline.hardware.device import choose_placement
from pipeline.model.generation import Generated, generate_ids
from pipeline.model.language_model import load_language_model
from pipeline.model.projector import Projector
from pipeline.model.vision_language_model import VisionLanguageModel
from pipeline.params.schema import GenerateParams, LanguageModelParams
from pipeline.text.prompt import Prompt

# No token that the model says of these images.
EOS = 358
PROMPT = Prompt(before=(0, 5, 6), after=(7, 8), eos=EOS)
IMAGES, NUM_TOKENS, WIDTH, LENGTH = 8, 4, 6, 8
GREEDY = GenerateParams(beams=1, max_new_tokens=LENGTH, length_penalty=1.0, no_repeat_ngram_size=0)
BEAMS = replace(GREEDY, beams=3, length_penalty=0.7)


@pytest.fixture(scope="module")
def model(tiny_llama: Path) -> VisionLanguageModel:
    params = LanguageModelParams(str(tiny_llama), None, "none", double_quantization=False)
    language_model = load_language_model(params, choose_placement("cpu"))
    language_model.end_ids = frozenset()  # its answers end where a test says
    torch.manual_seed(0)
    return VisionLanguageModel(Projector(WIDTH, 8, language_model.width), language_model, PROMPT)


@pytest.fixture(scope="module")
def features() -> Tensor:
    return torch.randn(IMAGES, NUM_TOKENS, WIDTH, generator=torch.Generator().manual_seed(1))


def generated(
    model: VisionLanguageModel, features: Tensor, params: GenerateParams, batch_size: int = IMAGES
) -> list[Generated]:
    return list(generate_ids(model, features, params, batch_size))


def ending_in(model: VisionLanguageModel, eos: int) -> VisionLanguageModel:
    """The same model with another token as the end of sequence."""
    return VisionLanguageModel(model.projector, model.language_model, replace(model.prompt, eos=eos))


@torch.inference_mode()
def greedy_by_hand(model: VisionLanguageModel, features: Tensor) -> list[int]:
    """The likeliest token again and again, the whole sequence computed anew for each."""
    sequence = model.embed_prefix(features)
    ids: list[int] = []
    while len(ids) < LENGTH:
        logits = model.language_model.model(inputs_embeds=sequence).logits
        ids.append(int(logits[0, -1].argmax()))
        word = model.language_model.embed(torch.tensor([[ids[-1]]]))
        sequence = torch.cat([sequence, word], dim=1)
    return ids


@torch.inference_mode()
def by_transformers(
    model: VisionLanguageModel, features: Tensor, params: GenerateParams, end_ids: Sequence[int]
) -> list[int]:
    """What `generate` finds for one image."""
    ids = model.language_model.model.generate(
        inputs_embeds=model.embed_prefix(features),
        do_sample=False,
        num_beams=params.beams,
        length_penalty=params.length_penalty,
        no_repeat_ngram_size=params.no_repeat_ngram_size,
        max_new_tokens=LENGTH,
        eos_token_id=list(end_ids),
        pad_token_id=0,
    )[0].tolist()
    return list(takewhile(lambda token: token not in end_ids, ids))


@pytest.mark.parametrize("params", [GREEDY, BEAMS], ids=["greedy", "beams"])
def test_a_caption_does_not_depend_on_its_batch(
    model: VisionLanguageModel, features: Tensor, params: GenerateParams
) -> None:
    model.train()
    together = generated(model, features, params)
    assert not model.projector.training
    # Otherwise the comparisons would say little.
    assert len({one.ids for one in together}) > IMAGES // 2
    assert generated(model, features, params, batch_size=1) == together
    assert generated(model, features, params, batch_size=3) == together
    assert generated(model, features.flip(0), params) == together[::-1]


def test_greedy_captions_are_the_likeliest_tokens_one_after_another(
    model: VisionLanguageModel, features: Tensor
) -> None:
    found = generated(model, features, GREEDY)
    for image, one in enumerate(found):
        assert list(one.ids) == greedy_by_hand(model, features[image : image + 1])


@pytest.mark.parametrize("ends", [0, 1, 2])
@pytest.mark.parametrize("no_repeat_ngram_size", [0, 1, 2])
@pytest.mark.parametrize(("beams", "length_penalty"), [(1, 1.0), (2, 0.0), (3, 0.7), (3, 1.0), (4, 2.0)])
def test_every_setting_finds_what_transformers_finds(
    model: VisionLanguageModel,
    features: Tensor,
    monkeypatch: pytest.MonkeyPatch,
    beams: int,
    length_penalty: float,
    no_repeat_ngram_size: int,
    ends: int,
) -> None:
    """With an end that the model never says, with one that it does, and with a second one."""
    params = GenerateParams(beams, LENGTH, length_penalty, no_repeat_ngram_size)
    endless = generated(model, features, GREEDY)
    end_ids = [EOS] if ends == 0 else [endless[0].ids[3], endless[1].ids[5]][:ends]
    monkeypatch.setattr(model.language_model, "end_ids", frozenset(end_ids[1:]))
    found = generated(ending_in(model, end_ids[0]), features, params)
    if length_penalty < 2:  # which prefers captions that did not end
        assert any(one.finished for one in found) == (ends > 0)
    for image, one in enumerate(found):
        assert list(one.ids) == by_transformers(model, features[image : image + 1], params, end_ids)
        if no_repeat_ngram_size == 1:
            assert len(set(one.ids)) == len(one.ids)


@pytest.mark.parametrize("length", [1, 5])
@pytest.mark.parametrize("beams", [1, 3])
def test_a_caption_without_an_end_is_cut_off_and_not_finished(
    model: VisionLanguageModel, features: Tensor, beams: int, length: int
) -> None:
    found = generated(model, features, replace(GREEDY, beams=beams, max_new_tokens=length))
    assert all(len(one.ids) == length and not one.finished for one in found)


@torch.inference_mode()
def mean_log_probability(model: VisionLanguageModel, features: Tensor, ids: list[int]) -> float:
    """Of these tokens after the image, from one pass over the whole sequence."""
    words = model.language_model.embed(torch.tensor([ids]))
    prefix = model.embed_prefix(features)
    logits = model.language_model.model(inputs_embeds=torch.cat([prefix, words], dim=1)).logits[0]
    before = logits[prefix.shape[1] - 1 : -1].log_softmax(dim=-1)  # [len(ids), V]
    return float(before[range(len(ids)), ids].mean())


@pytest.mark.parametrize("params", [GREEDY, BEAMS], ids=["greedy", "beams"])
def test_a_score_is_the_mean_log_probability_of_the_tokens_and_their_end(
    model: VisionLanguageModel, features: Tensor, params: GenerateParams
) -> None:
    eos = generated(model, features, GREEDY)[0].ids[3]
    ending = ending_in(model, eos)
    found = generated(ending, features, params)
    assert {one.finished for one in found} == {True, False}
    for image, one in enumerate(found):
        ids = [*one.ids, eos] if one.finished else list(one.ids)
        expected = mean_log_probability(ending, features[image : image + 1], ids)
        assert one.score == pytest.approx(expected, abs=1e-4)
        assert one.score < 0


def test_the_model_knows_every_token_that_ends_its_answers(tiny_llama: Path, tmp_path: Path) -> None:
    """Instruction models name several in generation_config.json, and their tokenizer one of them."""
    shutil.copytree(tiny_llama, tmp_path / "model")
    file = tmp_path / "model" / "generation_config.json"
    for ids, expected in (([1, 7, 9], {1, 7, 9}), (1, {1}), (None, set())):
        file.write_text(json.dumps({**json.loads(file.read_text()), "eos_token_id": ids}))
        params = LanguageModelParams(str(tmp_path / "model"), None, "none", double_quantization=False)
        assert load_language_model(params, choose_placement("cpu")).end_ids == expected
