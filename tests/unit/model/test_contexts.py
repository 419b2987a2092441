"""Packing: captions after one image, and after prefixes of different lengths, give what each gives alone.

Run: .venv/bin/python -m pytest tests/unit/model/test_contexts.py
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.model.checkpoints import load_checkpoint
from pipeline.model.feature_captioner import FeatureCaptioner
from pipeline.model.generation import Generated, generate_candidates
from pipeline.model.packing import pack
from pipeline.model.vision_language_model import VisionLanguageModel
from pipeline.params.schema import Params
from pipeline.text.prompt import CaptionTokenizer
from tests.params_files import with_changes
from tests.tiny_captioner import save_captioner
from tests.tiny_llama import (
    CPU,
    GREEDY,
    NUM_TOKENS,
    PROMPT,
    assert_same_loss,
    embed_sequence,
    ids_by_transformers,
    load_llama,
    loss_alone,
    make_features,
    make_model,
)

PREFIX, START = PROMPT.prefix_length(NUM_TOKENS), PROMPT.context_start(NUM_TOKENS)
CONTEXTS = [[30, 31, 32, 33], [], [34], [35, 36, 37, 38, 39, 40]]
CAPTIONS = [[[10, 11, 12], [13]], [[19, 20]], [[21], [22, 23, 24]], [[14, 15, 16, 17, 18]]]
FEATURES = make_features(len(CONTEXTS))


@pytest.fixture(scope="module", params=["none", "nf4"])
def model(request: pytest.FixtureRequest, tiny_llama: Path) -> VisionLanguageModel:
    return make_model(load_llama(tiny_llama, request.param))


def generate(*arguments: Any) -> list[Generated]:
    return [best for best, *_ in generate_candidates(*arguments)]


def test_the_loss_after_contexts_is_that_of_transformers(model: VisionLanguageModel) -> None:
    alone = torch.zeros(())
    for features, context, captions in zip(FEATURES, CONTEXTS, CAPTIONS, strict=True):
        for caption in captions:
            alone = alone + loss_alone(model, features[None], [*context, *PROMPT.after, *caption], caption)
    assert_same_loss(model, model.loss(FEATURES, pack(CAPTIONS, PREFIX, CONTEXTS, START)), alone)


def test_no_position_counts_the_padding_of_a_context_and_nothing_attends_to_it() -> None:
    batch = pack([[[10, 11]], [[12, 13]]], 3, [[30, 31], [32]], context_start=2)
    # Before 0-1, context 2-3 (of the second row padded at 2), after 4, caption 5-6.
    assert batch.context_ids.tolist() == [[30, 31], [0, 32]]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 4, 5, 6], [0, 1, 1, 2, 3, 4, 5]]
    assert batch.mask[1, 0, 6].nonzero().flatten().tolist() == [0, 1, 3, 4, 5, 6]
    # A row of the mask without any true entry, even where padded, would make softmax return NaN.
    assert batch.mask.diagonal(dim1=2, dim2=3).all()


def test_without_contexts_a_batch_is_that_of_a_prompt_without_them() -> None:
    empty = pack(CAPTIONS, PREFIX, [[]] * len(CAPTIONS), START)
    for name, expected in pack(CAPTIONS, PREFIX).__dict__.items():
        assert torch.equal(getattr(empty, name), expected), name


@pytest.mark.parametrize("beams", [1, 3])
def test_a_batch_does_not_matter_to_a_caption(model: VisionLanguageModel, beams: int) -> None:
    params = replace(GREEDY, beams=beams)
    model.train()
    together = generate(model, FEATURES, params, 12, CONTEXTS)
    for features, context, caption in zip(FEATURES, CONTEXTS, together, strict=True):
        (alone,) = generate(model, features[None], params, 12, [context])
        assert caption == alone
        assert caption.score == pytest.approx(alone.score, abs=1e-4)
    assert not model.projector.training
    # Two images at a time, whose contexts are padded otherwise.
    assert generate(model, FEATURES, params, 2 * beams, CONTEXTS) == together
    plain = generate(model, FEATURES, params, 12)
    assert plain == generate(model, FEATURES, params, 12, [[]] * len(CONTEXTS))
    assert plain[1] == together[1]
    assert plain != together


@torch.inference_mode()
def test_a_caption_after_contexts_is_transformers(model: VisionLanguageModel) -> None:
    found = generate(model, FEATURES, GREEDY, 4, CONTEXTS)
    for features, context, caption in zip(FEATURES, CONTEXTS, found, strict=True):
        prefix = embed_sequence(model, features[None], [*context, *PROMPT.after])
        assert list(caption.ids) == ids_by_transformers(model, prefix)


@pytest.mark.parametrize("limit", [3, 48], ids=["cut", "whole"])
def test_the_loss_on_dev_expects_no_end_after_a_cut(tiny_params: Params, tmp_path: Path, limit: int) -> None:
    params = with_changes(tiny_params, prompt={"max_caption_tokens": limit})
    checkpoint = save_captioner(tmp_path / "checkpoint.safetensors", params)
    captioner = FeatureCaptioner.load(load_checkpoint(checkpoint), CPU, None)
    tokenizer = CaptionTokenizer(params.prompt, params.language_model)
    caption = "a dog runs over the grass"
    ids = tokenizer.encode_caption(caption)
    labels = ids[:limit] if limit == 3 else [*ids, tokenizer.prompt.eos]

    encoder = captioner.info.encoder
    features = torch.randn(1, encoder["num_tokens"], encoder["width"], generator=torch.manual_seed(0))
    batch = pack([[labels]], tokenizer.prompt.prefix_length(encoder["num_tokens"]))
    expected = float(captioner.model.loss(features, batch).detach()) / len(labels)
    assert captioner.loss([(features, [[caption]], None, [None])]) == pytest.approx(expected, rel=1e-5)
