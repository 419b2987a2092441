"""The tiny Llama behind a random projector, and what `transformers` computes for one sequence alone."""

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor

from pipeline.hardware.device import Placement, choose_placement
from pipeline.model.language_model import LanguageModel, load_language_model
from pipeline.model.projector import Projector
from pipeline.model.vision_language_model import VisionLanguageModel
from pipeline.params.schema import GenerateParams, LanguageModelParams
from pipeline.text.prompt import Prompt

CPU = choose_placement("cpu")
NUM_TOKENS, WIDTH = 4, 6
# Its end is no token that the model says.
PROMPT = Prompt(before=(0, 5, 6), after=(7, 8), eos=358)
GREEDY = GenerateParams(beams=1, max_new_tokens=8, length_penalty=1.0, no_repeat_ngram_size=0)


def load_llama(
    folder: Path, quantization: Literal["nf4", "none"] = "none", placement: Placement = CPU
) -> LanguageModel:
    params = LanguageModelParams(str(folder), None, quantization, double_quantization=False)
    return load_language_model(params, placement)


def make_model(language_model: LanguageModel, prompt: Prompt = PROMPT) -> VisionLanguageModel:
    """A captioner that ends only at the prompt's end."""
    language_model.end_ids = frozenset()
    torch.manual_seed(0)
    projector = Projector(WIDTH, 8, language_model.width).to(language_model.device)
    return VisionLanguageModel(projector, language_model, prompt)


def make_features(images: int) -> Tensor:
    """Random features, `[images, P, D_v]`."""
    return torch.randn(images, NUM_TOKENS, WIDTH, generator=torch.Generator().manual_seed(1))


def embed_sequence(model: VisionLanguageModel, features: Tensor, ids: Sequence[int]) -> Tensor:
    """The embeddings `[1, T, D_l]` of the prompt's beginning, of an image `[1, P, D_v]` and of `ids`."""
    before, behind = (model.language_model.embed(torch.tensor([i])) for i in (model.prompt.before, ids))
    return torch.cat([before, model.projector(features), behind], dim=1)


@torch.inference_mode()
def ids_by_transformers(
    model: VisionLanguageModel,
    prefix: Tensor,
    params: GenerateParams = GREEDY,
    end_ids: Sequence[int] = (PROMPT.eos,),
) -> list[int]:
    """The tokens that `generate` finds after the embeddings `[1, L, D_l]`, without their end."""
    ids = model.language_model.model.generate(
        inputs_embeds=prefix,
        do_sample=False,
        num_beams=params.beams,
        length_penalty=params.length_penalty,
        no_repeat_ngram_size=params.no_repeat_ngram_size,
        max_new_tokens=params.max_new_tokens,
        eos_token_id=list(end_ids),
        pad_token_id=0,
    )[0].tolist()
    return list(takewhile(lambda token: token not in end_ids, ids))


def loss_alone(
    model: VisionLanguageModel, features: Tensor, ids: Sequence[int], labels: Sequence[int]
) -> Tensor:
    """The summed loss of that sequence, the last of whose `ids` are to be predicted as `labels`."""
    inputs = embed_sequence(model, features, ids)
    targets = torch.tensor([[-100] * (inputs.shape[1] - len(labels)) + [*labels]])
    loss: Tensor = model.language_model.model(inputs_embeds=inputs, labels=targets).loss
    return loss * sum(label != -100 for label in labels)


def assert_same_loss(model: VisionLanguageModel, ours: Tensor, expected: Tensor) -> None:
    """Compare two losses, and their gradients in the projector."""
    assert float(ours.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    parameters = list(model.projector.parameters())
    gradients = (torch.autograd.grad(loss, parameters) for loss in (ours, expected))
    for gradient, wanted in zip(*gradients, strict=True):
        assert (gradient - wanted).norm() <= 1e-5 * wanted.norm()
