"""Before the first step the projector learns the words of captions; a run that continues does not repeat it.

Run: .venv/bin/python -m pytest tests/unit/training/test_word_start.py
"""

from dataclasses import replace
from pathlib import Path
from statistics import mean

import pytest
import torch

from pipeline.model.checkpoints import tensor_digest
from pipeline.model.vision_language_model import VisionLanguageModel
from pipeline.training.batches import TrainingData
from pipeline.training.word_start import start_by_words
from tests.tiny_llama import load_llama, make_model
from tests.unit.training.builders import STEPS, Lab, interrupted_after


def own_words(model: VisionLanguageModel, data: TrainingData) -> list[float]:
    """For each image, the share of its tokens whose nearest word embedding is a word of its captions."""
    ids = torch.unique(torch.cat([torch.tensor(ids) for texts in data.tokens.captions for ids in texts]))
    words = model.language_model.embed(ids)  # [W, D_l]
    shares = []
    for image, captions in enumerate(data.tokens.captions[:-1]):
        outputs = model.projector(data.features.read([image]).float()[0])  # [P, D_l]
        named = ids[torch.cdist(outputs, words).argmin(-1)].tolist()
        own = {int(token) for caption in captions for token in caption}
        shares.append(sum(token in own for token in named) / len(named))
    return shares


@torch.no_grad()
def length(model: VisionLanguageModel, data: TrainingData) -> float:
    """The mean length of the outputs of the images that have captions."""
    images = [image for image, captions in enumerate(data.tokens.captions) if captions]
    return float(model.projector(data.features.read(images).float()).norm(dim=-1).mean())


def test_outputs_come_near_words_of_their_image_and_stay_as_long(lab: Lab, tiny_llama: Path) -> None:
    model = make_model(load_llama(tiny_llama))
    with lab.data() as whole:
        # One image has no caption, and no word is its own.
        tokens = replace(whole.tokens, captions=[*whole.tokens.captions[:-1], []])
        data = TrainingData(whole.features, tokens)
        before, long = own_words(model, data), length(model, data)
        start_by_words(model, data, replace(lab.params.train, word_passes=100, learning_rate=1e-2))
        after = own_words(model, data)
        assert length(model, data) == pytest.approx(long, rel=1e-3)
    assert mean(before) < 0.6
    assert mean(after) > 0.8


def test_images_without_captions_have_no_words_to_start_by(lab: Lab, tiny_llama: Path) -> None:
    model = make_model(load_llama(tiny_llama))
    before = tensor_digest(model.projector.state_dict())
    with lab.data() as data:
        bare = replace(data.tokens, captions=[[] for _ in data.tokens.captions])
        start_by_words(model, TrainingData(data.features, bare), replace(lab.params.train, word_passes=2))
    assert tensor_digest(model.projector.state_dict()) == before


def test_a_run_that_continues_has_started_already(
    lab: Lab, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    with interrupted_after(1):
        lab.train(tmp_path, epochs=1, word_passes=2)
    assert log.text.count("started by") == 1
    assert lab.train(tmp_path, epochs=1, word_passes=2).trained_steps == STEPS - 1
    assert log.text.count("started by") == 1
