"""Batches of an epoch: every caption once, rows of like length together, little padding."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.params.loader import load_params
from pipeline.params.schema import TrainParams
from pipeline.training.batches import Row, plan_epoch
from tests.conftest import ROOT

SAMPLE = load_params(ROOT / "profiles" / "sample.yaml")
PARAMS = SAMPLE.train
# Prompt and image of the sample: 16 image tokens and the words around them.
PREFIX = 31
LENGTHS = st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=7), min_size=1, max_size=40)


def padding(lengths: list[list[int]], params: TrainParams) -> float:
    """The share of an epoch's positions that hold nothing."""
    empty = positions = 0
    for step in plan_epoch(lengths, params, epoch=1):
        for rows in step:
            filled = [PREFIX + sum(lengths[row.image][c] for c in row.captions) for row in rows]
            positions += max(filled) * len(rows)
            empty += max(filled) * len(rows) - sum(filled)
    return empty / positions


def rows_of(plan: list[list[list[Row]]]) -> list[Row]:
    return [row for step in plan for batch in step for row in batch]


@given(
    lengths=LENGTHS,
    per_pass=st.just("all") | st.integers(1, 6),
    batch_size=st.integers(1, 9),
    accumulation=st.integers(1, 3),
    epoch=st.integers(1, 5),
)
def test_an_epoch_has_every_caption_of_every_image_exactly_once(
    lengths: Sequence[Sequence[int]], per_pass: Any, batch_size: int, accumulation: int, epoch: int
) -> None:
    params = replace(
        PARAMS,
        captions_per_sequence=per_pass,
        batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
    )
    plan = plan_epoch(lengths, params, epoch)
    found = Counter((row.image, caption) for row in rows_of(plan) for caption in row.captions)
    assert found == Counter((image, c) for image, of in enumerate(lengths) for c in range(len(of)))
    assert all(1 <= len(batch) <= batch_size for step in plan for batch in step)
    assert all(1 <= len(step) <= accumulation for step in plan)
    most = 7 if per_pass == "all" else per_pass
    assert all(1 <= len(row.captions) <= most for row in rows_of(plan))
    # As few rows as the captions of each image need.
    assert len(rows_of(plan)) == sum(math.ceil(len(of) / most) for of in lengths)


@given(lengths=LENGTHS, seed=st.integers(0, 5), epoch=st.integers(1, 5))
def test_the_order_depends_on_seed_and_epoch_alone(
    lengths: Sequence[Sequence[int]], seed: int, epoch: int
) -> None:
    params = replace(PARAMS, seed=seed)
    other = replace(params, learning_rate=0.2, epochs=9, ema_decay=0.9)
    assert plan_epoch(lengths, params, epoch) == plan_epoch(lengths, other, epoch)
    many = [[3, 4, 5]] * 20
    assert plan_epoch(many, params, epoch) != plan_epoch(many, params, epoch + 1)
    assert plan_epoch(many, params, epoch) != plan_epoch(many, replace(params, seed=seed + 1), epoch)


@pytest.mark.parametrize("together", ["all", 1])
@pytest.mark.parametrize("batch_size", [4, 8, 16])
def test_padding_is_below_five_percent_for_captions_as_photographs_have_them(
    together: str, batch_size: int
) -> None:
    # Lengths with the mean and spread of Flickr8k's captions in SmolLM2's tokens.
    drawn = np.random.default_rng(0).gamma(shape=9, scale=1.5, size=(800, 5)).astype(int) + 1
    params = replace(PARAMS, captions_per_sequence=together, batch_size=batch_size)  # type: ignore[arg-type]
    assert padding(drawn.tolist(), params) < 0.05
