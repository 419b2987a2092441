"""Packing: several captions after one image give what separate sequences give."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipeline.hardware.device import choose_placement
from pipeline.model.checkpoints import load_checkpoint
from pipeline.model.feature_captioner import FeatureCaptioner
from pipeline.model.language_model import load_language_model
from pipeline.model.packing import caption_labels, pack
from pipeline.model.projector import Projector
from pipeline.model.vision_language_model import VisionLanguageModel
from pipeline.params.schema import LanguageModelParams, Params
from pipeline.text.prompt import CaptionTokenizer, Prompt
from tests.tiny_captioner import save_captioner

EOS = 1
# Images with different numbers of captions of different lengths.
CAPTIONS = [[[10, 11, 12], [13], [14, 15, 16, 17, 18]], [[19, 20]], [[21], [22, 23, 24]]]
NUM_TOKENS, WIDTH = 4, 6


@pytest.fixture(params=["none", "nf4"])
def model(request: pytest.FixtureRequest, tiny_llama: Path) -> VisionLanguageModel:
    """A language model after a projector, as a run starts with it."""
    params = LanguageModelParams(str(tiny_llama), None, request.param, double_quantization=False)
    language_model = load_language_model(params, choose_placement("cpu"))
    torch.manual_seed(0)
    projector = Projector(WIDTH, 64, language_model.width)
    features = torch.randn(64, NUM_TOKENS, WIDTH)
    projector.standardize(features)
    projector.scale_output(features, language_model.embedding_norm())
    return VisionLanguageModel(projector, language_model, Prompt((0, 5, 6), (7, 8), EOS))


@pytest.fixture
def features() -> Tensor:
    return torch.randn(len(CAPTIONS), NUM_TOKENS, WIDTH, generator=torch.Generator().manual_seed(1))


def loss_and_gradients(
    model: VisionLanguageModel, features: Tensor, rows: list[list[list[int]]]
) -> tuple[float, list[Tensor]]:
    labels = [[caption_labels(ids, EOS, truncated=False) for ids in row] for row in rows]
    batch = pack(labels, model.prompt.prefix_length(NUM_TOKENS))
    loss = model.loss(features, batch) / len(batch.labels)
    return float(loss.detach()), list(torch.autograd.grad(loss, list(model.projector.parameters())))


def test_packing_changes_neither_loss_nor_gradient(model: VisionLanguageModel, features: Tensor) -> None:
    packed_loss, packed = loss_and_gradients(model, features, CAPTIONS)
    rows = [[ids] for captions in CAPTIONS for ids in captions]
    images = torch.tensor([image for image, captions in enumerate(CAPTIONS) for _ in captions])
    separate_loss, separate = loss_and_gradients(model, features[images], rows)
    assert packed_loss == pytest.approx(separate_loss, rel=1e-5)
    for a, b in zip(packed, separate, strict=True):
        assert (a - b).norm() <= 1e-5 * b.norm()


def test_the_loss_is_that_of_the_causal_model_itself(model: VisionLanguageModel, features: Tensor) -> None:
    """Against `transformers`' own loss, whose labels are shifted inside the model."""
    caption = CAPTIONS[0][2]
    ours, _ = loss_and_gradients(model, features[:1], [[caption]])
    prefix = model.embed_prefix(features[:1])
    words = model.language_model.embed(torch.tensor([[*caption, EOS]]))
    labels = torch.tensor([[-100] * prefix.shape[1] + [*caption, EOS]])
    theirs = model.language_model.model(inputs_embeds=torch.cat([prefix, words], dim=1), labels=labels).loss
    assert ours == pytest.approx(float(theirs.detach()), rel=1e-5)


@pytest.mark.parametrize("limit", [3, 48], ids=["cut", "whole"])
def test_the_loss_on_dev_expects_no_end_after_a_cut(tiny_params: Params, tmp_path: Path, limit: int) -> None:
    params = replace(tiny_params, prompt=replace(tiny_params.prompt, max_caption_tokens=limit))
    checkpoint = save_captioner(tmp_path / "checkpoint.safetensors", params)
    captioner = FeatureCaptioner.load(load_checkpoint(checkpoint), choose_placement("cpu"), None)
    tokenizer = CaptionTokenizer(params.prompt, params.language_model)
    caption = "a dog runs over the grass"
    ids = tokenizer.encode_caption(caption)
    labels = ids[:limit] if limit == 3 else [*ids, tokenizer.prompt.eos]

    encoder = captioner.info.encoder
    features = torch.randn(1, encoder["num_tokens"], encoder["width"], generator=torch.manual_seed(0))
    batch = pack([[labels]], tokenizer.prompt.prefix_length(encoder["num_tokens"]))
    expected = float(captioner.model.loss(features, batch).detach()) / len(labels)
    assert captioner.loss([(features, [[caption]], None)]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("eos", "truncated", "end"), [(EOS, False, [EOS]), (EOS, True, []), (None, False, [])]
)
def test_labels_are_the_captions_tokens_and_their_end_if_it_is_supervised_and_was_not_cut(
    eos: int | None, truncated: bool, end: list[int]
) -> None:
    rows = [[caption_labels(ids, eos, truncated) for ids in captions] for captions in CAPTIONS]
    batch = pack(rows, prefix_length=9)
    assert batch.labels.tolist() == [t for captions in CAPTIONS for ids in captions for t in (*ids, *end)]
    # A row of the mask without any true entry, even where padded, would make softmax return NaN.
    assert batch.mask.diagonal(dim1=2, dim2=3).all()


def test_a_caption_attends_only_to_the_prefix_and_to_its_own_past() -> None:
    batch = pack([[[10, 11, EOS], [12, 13, 14, EOS]]], prefix_length=3)
    # Prefix 0-2, first caption 3-5, second caption 6-9.
    mask = batch.mask[0, 0]
    assert mask[4].nonzero().flatten().tolist() == [0, 1, 2, 3, 4]
    assert mask[7].nonzero().flatten().tolist() == [0, 1, 2, 6, 7]
    assert batch.positions[0].tolist() == [0, 1, 2, 3, 4, 5, 3, 4, 5, 6]
