"""Generation: a caption depends only on its image, and is the one that `transformers` finds.

Run: .venv/bin/python -m pytest tests/unit/model/test_generation.py
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipeline.model import generation
from pipeline.model.generation import Generated, choose_rows, generate_candidates
from pipeline.model.vision_language_model import VisionLanguageModel
from pipeline.params.schema import GenerateParams
from tests.refusals import call_before
from tests.tiny_llama import (
    GREEDY,
    NUM_TOKENS,
    PROMPT,
    ids_by_transformers,
    load_llama,
    make_features,
    make_model,
)

EOS = PROMPT.eos
IMAGES = 8
FEATURES = make_features(IMAGES)
BEAMS = replace(GREEDY, beams=3, length_penalty=0.7)
BOTH = pytest.mark.parametrize("params", [GREEDY, BEAMS], ids=["greedy", "beams"])


@pytest.fixture(scope="module")
def model(tiny_llama: Path) -> VisionLanguageModel:
    return make_model(load_llama(tiny_llama))


def generated(
    model: VisionLanguageModel, params: GenerateParams, batch_size: int = IMAGES
) -> list[Generated]:
    return [best for best, *_ in generate_candidates(model, FEATURES, params, batch_size)]


def ending_in(model: VisionLanguageModel, end_ids: Sequence[int]) -> VisionLanguageModel:
    """Return the same model with other end tokens: the tokenizer's, then the model's own."""
    model.language_model.end_ids = frozenset(end_ids[1:])
    prompt = replace(model.prompt, eos=end_ids[0])
    return VisionLanguageModel(model.projector, model.language_model, prompt)


@pytest.mark.parametrize(
    ("beams", "length_penalty", "no_repeat", "ends"),
    [
        (1, 1.0, 0, 2),
        (1, 1.0, 1, 0),
        (1, 1.0, 2, 1),
        (2, 0.0, 0, 2),
        (3, 0.7, 2, 0),
        (3, 0.7, 0, 1),
        (3, 1.0, 1, 2),
        (4, 2.0, 2, 2),
    ],
)
def test_every_setting_finds_what_transformers_finds(
    model: VisionLanguageModel, beams: int, length_penalty: float, no_repeat: int, ends: int
) -> None:
    """Without an end that the model says, with one end, and with a second one."""
    params = GenerateParams(beams, GREEDY.max_new_tokens, length_penalty, no_repeat)
    endless = generated(ending_in(model, [EOS]), GREEDY)
    end_ids = [endless[0].ids[3], endless[1].ids[5]][:ends] or [EOS]
    captions = generated(ending_in(model, end_ids), params)
    if length_penalty < 2:  # which prefers captions that did not end
        assert any(caption.finished for caption in captions) == (ends > 0)
    for features, caption in zip(FEATURES, captions, strict=True):
        prefix = model.embed_prefix(features[None])
        assert list(caption.ids) == ids_by_transformers(model, prefix, params, end_ids)


@torch.inference_mode()
def mean_log_probability(model: VisionLanguageModel, features: Tensor, ids: list[int]) -> float:
    """Compute the score of these tokens after the image from one pass over the whole sequence."""
    words = model.language_model.embed(torch.tensor([ids]))
    prefix = model.embed_prefix(features)
    logits = model.language_model.model(inputs_embeds=torch.cat([prefix, words], dim=1)).logits[0]
    before = logits[prefix.shape[1] - 1 : -1].log_softmax(dim=-1)  # [len(ids), V]
    return float(before[range(len(ids)), ids].mean())


@BOTH
def test_a_score_is_the_mean_over_tokens_and_end(model: VisionLanguageModel, params: GenerateParams) -> None:
    eos = generated(ending_in(model, [EOS]), GREEDY)[0].ids[3]
    ending = ending_in(model, [eos])
    captions = generated(ending, params)
    assert {caption.finished for caption in captions} == {True, False}
    for features, caption in zip(FEATURES, captions, strict=True):
        ids = [*caption.ids, eos] if caption.finished else list(caption.ids)
        expected = mean_log_probability(ending, features[None], ids)
        assert caption.score == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("ids", "expected"), [([1, 7, 9], {1, 7, 9}), (1, {1}), (None, set())])
def test_the_model_knows_every_token_that_ends_its_answers(
    llama: Path, ids: list[int] | int | None, expected: set[int]
) -> None:
    """Instruction models name several in generation_config.json, and their tokenizer one of them."""
    file = llama / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "eos_token_id": ids}))
    assert load_llama(llama).end_ids == expected


@BOTH
def test_where_memory_is_full_fewer_images_are_captioned_at_once(
    model: VisionLanguageModel, params: GenerateParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = generated(model, params)
    sizes: list[int] = []
    room = 2

    def fill_memory(_: VisionLanguageModel, images: Tensor, *__: Tensor) -> None:
        sizes.append(len(images))
        if len(images) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")

    call_before(monkeypatch, VisionLanguageModel, "embed_image", fill_memory)
    monkeypatch.setattr(model.language_model, "most_images", 1 << 30)
    assert generated(model, params, IMAGES * params.beams) == expected
    assert sizes == [8, 4, 2, 2, 2, 2]
    # What did not fit is not tried again.
    generated(model, params, IMAGES * params.beams)
    assert sizes[6:] == [2, 2, 2, 2]
    room = 0
    with pytest.raises(torch.OutOfMemoryError):
        generated(model, params)


def test_auto_fills_a_gpus_free_memory(model: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_rows(7, model, NUM_TOKENS) == 7
    assert choose_rows("auto", model, NUM_TOKENS) == 64  # on a CPU
    monkeypatch.setattr(type(model.language_model), "device", torch.device("cuda"))
    chosen = []
    for free in (1e4, 2e6, 4e6, 1e12):
        monkeypatch.setattr(generation, "free_memory", lambda _device, free=free: free)
        chosen.append(choose_rows("auto", model, NUM_TOKENS))
    assert (chosen[0], chosen[3]) == (1, 1024)
    assert 1 < chosen[1] == chosen[2] // 2
