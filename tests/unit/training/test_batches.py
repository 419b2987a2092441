"""Batches of an epoch: every caption once, rows of similar length together, little padding."""

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
from pipeline.training.batches import plan_epoch
from tests.conftest import ROOT

PARAMS = load_params(ROOT / "profiles" / "sample.yaml").train
# Prompt and image of the sample: 16 image tokens and the words around them.
PREFIX = 31
LENGTHS = st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=7), min_size=1, max_size=40)


@given(LENGTHS, st.just("all") | st.integers(1, 6), st.integers(1, 9), st.integers(1, 3))
def test_an_epoch_has_every_caption_of_every_image_exactly_once(
    lengths: Sequence[Sequence[int]], per_sequence: Any, batch_size: int, accumulation: int
) -> None:
    params = replace(PARAMS, captions_per_sequence=per_sequence, batch_size=batch_size)
    params = replace(params, gradient_accumulation_steps=accumulation)
    plan = plan_epoch(lengths, params, epoch=1)
    rows = [row for step in plan for batch in step for row in batch]
    seen = Counter((row.image, caption) for row in rows for caption in row.captions)
    assert seen == Counter((image, c) for image, captions in enumerate(lengths) for c in range(len(captions)))
    assert all(1 <= len(batch) <= batch_size for step in plan for batch in step)
    assert all(1 <= len(step) <= accumulation for step in plan)
    most = 7 if per_sequence == "all" else per_sequence
    assert all(1 <= len(row.captions) <= most for row in rows)
    # As few rows as the captions of each image need.
    assert len(rows) == sum(math.ceil(len(captions) / most) for captions in lengths)


def test_the_order_depends_only_on_seed_and_epoch() -> None:
    lengths = [[3, 4, 5]] * 20
    plan = plan_epoch(lengths, PARAMS, 1)
    assert plan == plan_epoch(lengths, replace(PARAMS, learning_rate=0.2, epochs=9, ema_decay=0.9), 1)
    assert plan != plan_epoch(lengths, PARAMS, 2)
    assert plan != plan_epoch(lengths, replace(PARAMS, seed=PARAMS.seed + 1), 1)


@pytest.mark.parametrize(("per_sequence", "batch_size"), [("all", 4), ("all", 16), (1, 4)])
def test_padding_is_below_five_percent_for_lengths_like_flickr8ks(per_sequence: Any, batch_size: int) -> None:
    # The mean and spread of Flickr8k's captions in SmolLM2's tokens.
    lengths = (np.random.default_rng(0).gamma(shape=9, scale=1.5, size=(800, 5)).astype(int) + 1).tolist()
    params = replace(PARAMS, captions_per_sequence=per_sequence, batch_size=batch_size)
    filled = positions = 0
    for rows in (rows for step in plan_epoch(lengths, params, epoch=1) for rows in step):
        sizes = [PREFIX + sum(lengths[row.image][c] for c in row.captions) for row in rows]
        filled += sum(sizes)
        positions += max(sizes) * len(rows)
    assert filled > 0.95 * positions
