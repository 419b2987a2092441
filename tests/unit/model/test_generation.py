"""Generation: a caption depends only on its image, and is the one that `transformers` finds.

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
from pipeline.model import generation
from pipeline.model.generation import Generated, choose_rows, generate_ids
from pipeline.model.language_model import load_language_model
from pipeline.model.projector import Projector
from pipeline.model.vision_language_model import VisionLanguageModel
from pipeline.params.schema import GenerateParams, LanguageModelParams
from pipeline.text.prompt import Prompt

# No token that the model says of these images.
EOS = 358
IMAGES, NUM_TOKENS, WIDTH, LENGTH = 8, 4, 6, 8
GREEDY = GenerateParams(beams=1, max_new_tokens=LENGTH, length_penalty=1.0, no_repeat_ngram_size=0)
BEAMS = replace(GREEDY, beams=3, length_penalty=0.7)
BOTH = pytest.mark.parametrize("params", [GREEDY, BEAMS], ids=["greedy", "beams"])


@pytest.fixture(scope="module")
def model(tiny_llama: Path) -> VisionLanguageModel:
    params = LanguageModelParams(str(tiny_llama), None, "none", double_quantization=False)
    language_model = load_language_model(params, choose_placement("cpu"))
    torch.manual_seed(0)
    projector = Projector(WIDTH, 8, language_model.width)
    model = VisionLanguageModel(projector, language_model, Prompt((0, 5, 6), (7, 8), EOS))
    return ending_in(model, [EOS])


@pytest.fixture(scope="module")
def features() -> Tensor:
    return torch.randn(IMAGES, NUM_TOKENS, WIDTH, generator=torch.Generator().manual_seed(1))


def generated(
    model: VisionLanguageModel, features: Tensor, params: GenerateParams, batch_size: int = IMAGES
) -> list[Generated]:
    return list(generate_ids(model, features, params, batch_size))


def ending_in(model: VisionLanguageModel, end_ids: Sequence[int]) -> VisionLanguageModel:
    """Return the same model with other end tokens: the tokenizer's, then the model's own."""
    model.language_model.end_ids = frozenset(end_ids[1:])
    prompt = replace(model.prompt, eos=end_ids[0])
    return VisionLanguageModel(model.projector, model.language_model, prompt)


@torch.inference_mode()
def by_transformers(
    model: VisionLanguageModel, features: Tensor, params: GenerateParams, end_ids: Sequence[int]
) -> list[int]:
    """Return what `generate` finds for one image."""
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
    model: VisionLanguageModel, features: Tensor, beams: int, length_penalty: float, no_repeat: int, ends: int
) -> None:
    """Without an end that the model says, with one end, and with a second one."""
    params = GenerateParams(beams, LENGTH, length_penalty, no_repeat)
    endless = generated(ending_in(model, [EOS]), features, GREEDY)
    end_ids = [endless[0].ids[3], endless[1].ids[5]][:ends] or [EOS]
    captions = generated(ending_in(model, end_ids), features, params)
    if length_penalty < 2:  # which prefers captions that did not end
        assert any(caption.finished for caption in captions) == (ends > 0)
    for image, caption in enumerate(captions):
        assert list(caption.ids) == by_transformers(model, features[image : image + 1], params, end_ids)


@torch.inference_mode()
def mean_log_probability(model: VisionLanguageModel, features: Tensor, ids: list[int]) -> float:
    """Compute the score of these tokens after the image from one pass over the whole sequence."""
    words = model.language_model.embed(torch.tensor([ids]))
    prefix = model.embed_prefix(features)
    logits = model.language_model.model(inputs_embeds=torch.cat([prefix, words], dim=1)).logits[0]
    before = logits[prefix.shape[1] - 1 : -1].log_softmax(dim=-1)  # [len(ids), V]
    return float(before[range(len(ids)), ids].mean())


@BOTH
def test_a_score_is_the_mean_log_probability_of_the_tokens_and_their_end(
    model: VisionLanguageModel, features: Tensor, params: GenerateParams
) -> None:
    eos = generated(ending_in(model, [EOS]), features, GREEDY)[0].ids[3]
    ending = ending_in(model, [eos])
    captions = generated(ending, features, params)
    assert {caption.finished for caption in captions} == {True, False}
    for image, caption in enumerate(captions):
        ids = [*caption.ids, eos] if caption.finished else list(caption.ids)
        expected = mean_log_probability(ending, features[image : image + 1], ids)
        assert caption.score == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("ids", "expected"), [([1, 7, 9], {1, 7, 9}), (1, {1}), (None, set())])
def test_the_model_knows_every_token_that_ends_its_answers(
    tiny_llama: Path, tmp_path: Path, ids: list[int] | int | None, expected: set[int]
) -> None:
    """Instruction models name several in generation_config.json, and their tokenizer one of them."""
    folder = shutil.copytree(tiny_llama, tmp_path / "model")
    file = folder / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "eos_token_id": ids}))
    params = LanguageModelParams(str(folder), None, "none", double_quantization=False)
    assert load_language_model(params, choose_placement("cpu")).end_ids == expected


@BOTH
def test_where_memory_is_full_fewer_images_are_captioned_at_once_and_the_captions_are_the_same(
    model: VisionLanguageModel, features: Tensor, params: GenerateParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = generated(model, features, params)
    sizes: list[int] = []
    room = 2
    embed = VisionLanguageModel.embed_image

    def with_little_room(self: VisionLanguageModel, images: Tensor, *context: Tensor) -> Tensor:
        sizes.append(len(images))
        if len(images) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return embed(self, images, *context)

    monkeypatch.setattr(VisionLanguageModel, "embed_image", with_little_room)
    monkeypatch.setattr(model.language_model, "most_images", 1 << 30)
    assert generated(model, features, params, IMAGES * params.beams) == expected
    assert sizes == [8, 4, 2, 2, 2, 2]
    # What did not fit is not tried again.
    generated(model, features, params, IMAGES * params.beams)
    assert sizes[6:] == [2, 2, 2, 2]
    room = 0
    with pytest.raises(torch.OutOfMemoryError):
        generated(model, features[:1], params)


def test_auto_fills_a_share_of_a_gpus_free_memory_with_rows(
    model: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert choose_rows(7, model, NUM_TOKENS) == 7
    assert choose_rows("auto", model, NUM_TOKENS) == 64  # on a CPU
    monkeypatch.setattr(type(model.language_model), "device", torch.device("cuda"))
    chosen = []
    for free in (1e4, 2e6, 4e6, 1e12):
        monkeypatch.setattr(generation, "free_memory", lambda _device, free=free: free)
        chosen.append(choose_rows("auto", model, NUM_TOKENS))
    assert (chosen[0], chosen[3]) == (1, 1024)
    assert 1 < chosen[1] == chosen[2] // 2
