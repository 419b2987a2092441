"""Batches of an epoch: every caption once, rows of like length together, little padding."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.batches import plan_epoch
from pipeline.captions import of_split, read_captions
from pipeline.params import DataParams, Limits, TrainParams
from pipeline.params_loader import load_params
from pipeline.prepare import prepare
from pipeline.prompt import CaptionTokenizer
from tests.conftest import ROOT
from tests.shared_data import photos

SAMPLE = load_params(ROOT / "profiles" / "sample.yaml")
PARAMS = SAMPLE.train
# Prompt and image of the sample: 16 image tokens and the words around them.
PREFIX = 31


def padding(lengths: list[list[int]], params: TrainParams) -> float:
    """The share of an epoch's positions that hold nothing."""
    empty = positions = 0
    for step in plan_epoch(lengths, params, epoch=1):
        for rows in step:
            filled = [PREFIX + sum(lengths[row.image][c] for c in row.captions) for row in rows]
            positions += max(filled) * len(rows)
            empty += max(filled) * len(rows) - sum(filled)
    return empty / positions


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=7), min_size=1, max_size=60),
    st.sampled_from(["all", 1, 2, 3]),
    st.integers(1, 9),
    st.integers(1, 3),
)
def test_an_epoch_has_every_caption_of_every_image_exactly_once(
    lengths: list[list[int]], together: str, batch_size: int, accumulation: int
) -> None:
    params = replace(
        PARAMS,
        captions_per_pass=together,  # type: ignore[arg-type]
        batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
    )
    plan = plan_epoch(lengths, params, epoch=3)
    seen = sorted((row.image, c) for step in plan for rows in step for row in rows for c in row.captions)
    assert seen == [(image, c) for image, captions in enumerate(lengths) for c in range(len(captions))]
    assert all(1 <= len(rows) <= batch_size for step in plan for rows in step)


@pytest.mark.parametrize("together", ["all", 1])
@pytest.mark.parametrize("batch_size", [4, 8, 16])
def test_padding_is_below_five_percent_for_captions_as_photographs_have_them(
    together: str, batch_size: int
) -> None:
    # Lengths with the mean and spread of Flickr8k's captions in SmolLM2's tokens.
    drawn = np.random.default_rng(0).gamma(shape=9, scale=1.5, size=(800, 5)).astype(int) + 1
    params = replace(PARAMS, captions_per_pass=together, batch_size=batch_size)  # type: ignore[arg-type]
    assert padding(drawn.tolist(), params) < 0.05


def test_padding_is_below_five_percent_for_real_captions(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("photos")
    data = DataParams("flickr8k", str(photos()), Limits(None, 1, 1), 50, SAMPLE.data.scenes)
    captions = folder / "captions.jsonl"
    prepare(data, folder / "images.jsonl", captions, folder / "card.md", folder / "images", workers=1)
    tokenizer = CaptionTokenizer(SAMPLE.prompt, SAMPLE.language_model)
    lengths = [
        [len(tokenizer.encode_caption(caption)) + 1 for caption in record.captions]
        for record in of_split(read_captions(captions), "train")
    ]
    assert padding(lengths, replace(PARAMS, batch_size=4)) < 0.05
    assert padding(lengths, replace(PARAMS, batch_size=16)) < 0.05


def test_epochs_differ_and_repeat() -> None:
    lengths = [[3, 4, 5]] * 40
    assert plan_epoch(lengths, PARAMS, epoch=1) == plan_epoch(lengths, PARAMS, epoch=1)
    assert plan_epoch(lengths, PARAMS, epoch=1) != plan_epoch(lengths, PARAMS, epoch=2)
