"""Contexts: prefixes of different lengths give what each gives alone and unpadded.

Run: .venv/bin/python -m pytest tests/unit/model/test_contexts.py
"""

from dataclasses import replace
from itertools import takewhile
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipeline.hardware.device import choose_placement
from pipeline.model.generation import generate_ids
from pipeline.model.language_model import load_language_model
from pipeline.model.packing import pack
from pipeline.model.projector import Projector
from pipeline.model.vision_language_model import VisionLanguageModel
from pipeline.params.schema import GenerateParams, LanguageModelParams
from pipeline.text.prompt import Prompt

PROMPT = Prompt(before=(0, 5, 6), after=(7, 8), eos=1)
NUM_TOKENS, WIDTH = 4, 6
PREFIX, START = PROMPT.prefix_length(NUM_TOKENS), PROMPT.context_start(NUM_TOKENS)
CONTEXTS = [[30, 31, 32, 33], [], [34], [35, 36, 37, 38, 39, 40]]
CAPTIONS = [[[10, 11, 12], [13]], [[19, 20]], [[21], [22, 23, 24]], [[14, 15, 16, 17, 18]]]
GREEDY = GenerateParams(beams=1, max_new_tokens=8, length_penalty=1.0, no_repeat_ngram_size=0)


@pytest.fixture(scope="module", params=["none", "nf4"])
def model(request: pytest.FixtureRequest, tiny_llama: Path) -> VisionLanguageModel:
    params = LanguageModelParams(str(tiny_llama), None, request.param, double_quantization=False)
    language_model = load_language_model(params, choose_placement("cpu"))
    language_model.end_ids = frozenset()
    torch.manual_seed(0)
    return VisionLanguageModel(Projector(WIDTH, 8, language_model.width), language_model, PROMPT)


@pytest.fixture(scope="module")
def features() -> Tensor:
    return torch.randn(len(CONTEXTS), NUM_TOKENS, WIDTH, generator=torch.Generator().manual_seed(1))


def plain_prefix(model: VisionLanguageModel, features: Tensor, context: list[int]) -> Tensor:
    """The embeddings of a prompt as it is read: words, image, context, words."""
    before, words = (torch.tensor([ids]) for ids in (PROMPT.before, [*context, *PROMPT.after]))
    embed = model.language_model.embed
    return torch.cat([embed(before), model.projector(features), embed(words)], dim=1)


def test_the_loss_after_contexts_is_that_of_transformers(
    model: VisionLanguageModel, features: Tensor
) -> None:
    batch = pack(CAPTIONS, PREFIX, CONTEXTS, START)
    packed = model.loss(features, batch)
    plain = torch.zeros(())
    for image, captions in enumerate(CAPTIONS):
        for caption in captions:
            prefix = plain_prefix(model, features[image : image + 1], CONTEXTS[image])
            words = model.language_model.embed(torch.tensor([caption]))
            labels = torch.tensor([[-100] * prefix.shape[1] + caption])
            output = model.language_model.model(inputs_embeds=torch.cat([prefix, words], 1), labels=labels)
            plain = plain + output.loss * len(caption)
    assert float(packed.detach()) == pytest.approx(float(plain.detach()), rel=1e-5)
    parameters = list(model.projector.parameters())
    ours, theirs = (torch.autograd.grad(loss, parameters) for loss in (packed, plain))
    for a, b in zip(ours, theirs, strict=True):
        assert (a - b).norm() <= 1e-5 * b.norm()


def test_no_position_counts_the_padding_of_a_context_and_nothing_attends_to_it() -> None:
    batch = pack([[[10, 11]], [[12, 13]]], 3, [[30, 31], [32]], context_start=2)
    # Before 0-1, context 2-3 (of the second row padded at 2), after 4, caption 5-6.
    assert batch.context_ids.tolist() == [[30, 31], [0, 32]]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 4, 5, 6], [0, 1, 1, 2, 3, 4, 5]]
    assert batch.mask[1, 0, 6].nonzero().flatten().tolist() == [0, 1, 3, 4, 5, 6]


def test_without_contexts_a_batch_is_that_of_a_prompt_without_them() -> None:
    empty = pack(CAPTIONS, PREFIX, [[]] * len(CAPTIONS), START)
    for name, expected in pack(CAPTIONS, PREFIX).__dict__.items():
        assert torch.equal(getattr(empty, name), expected), name


@pytest.mark.parametrize("beams", [1, 3])
def test_a_batch_does_not_matter_to_a_caption(
    model: VisionLanguageModel, features: Tensor, beams: int
) -> None:
    params = replace(GREEDY, beams=beams)
    model.train()
    together = list(generate_ids(model, features, params, 12, CONTEXTS))
    for image, context in enumerate(CONTEXTS):
        (alone,) = generate_ids(model, features[image : image + 1], params, 12, [context])
        assert together[image] == alone
        assert together[image].score == pytest.approx(alone.score, abs=1e-4)
    assert not model.projector.training
    # Two images at a time, whose contexts are padded otherwise.
    assert list(generate_ids(model, features, params, 2 * beams, CONTEXTS)) == together
    plain = list(generate_ids(model, features, params, 12))
    assert plain == list(generate_ids(model, features, params, 12, [[]] * len(CONTEXTS)))
    assert plain[1] == together[1]
    assert plain != together


@torch.inference_mode()
def test_a_caption_after_contexts_is_transformers(model: VisionLanguageModel, features: Tensor) -> None:
    captions = list(generate_ids(model, features, GREEDY, 4, CONTEXTS))
    ends = {"eos_token_id": PROMPT.eos, "pad_token_id": 0}
    for image, context in enumerate(CONTEXTS):
        prefix = plain_prefix(model, features[image : image + 1], context)
        generate = model.language_model.model.generate
        ids = generate(inputs_embeds=prefix, do_sample=False, max_new_tokens=8, **ends)[0].tolist()
        assert list(captions[image].ids) == list(takewhile(lambda token: token != PROMPT.eos, ids))
