"""What people say of an image, as a vector, and the map from features to it.

Run: .venv/bin/python -m pytest tests/unit/retrieval/test_caption_space.py
"""

import numpy as np
import pytest

from pipeline.retrieval.caption_space import caption_vectors, fit
from pipeline.retrieval.nearest import unit_rows
from tests.python_process import run_python

CAPTIONS = [
    ["A dog runs on grass.", "The dog plays."],
    ["A brown dog runs.", "dog on grass"],
    ["A boat on the sea.", "The boat sails"],
    ["The sea and a boat.", "A boat sails."],
]


def test_images_of_which_people_say_the_same_are_close() -> None:
    vectors = unit_rows(caption_vectors(CAPTIONS))
    similarity = vectors @ vectors.T
    assert similarity[0, 1] > 0.3 > -0.3 > similarity[0, 2]
    assert similarity[2, 3] > 0.3


def test_the_order_of_a_set_does_not_change_the_vectors() -> None:
    """Ties among equally common terms followed PYTHONHASHSEED: memory.h5 differed from run to run."""
    code = (
        "from tests.unit.retrieval.test_caption_space import CAPTIONS, caption_vectors;"
        "print(caption_vectors(CAPTIONS).tobytes().hex())"
    )
    printed = {run_python(code, PYTHONHASHSEED=seed).stdout for seed in ("0", "1")}
    assert len(printed) == 1


@pytest.mark.parametrize("captions", [[["one"], ["two"]], [["the same"], ["the same"]], [["only"]]])
def test_captions_that_tell_no_images_apart_give_no_direction(captions: list[list[str]]) -> None:
    assert not caption_vectors(captions).any()


def test_the_held_out_value_of_an_image_is_that_of_a_map_that_has_not_seen_it() -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((12, 5)).astype(np.float32)
    targets = rng.standard_normal((12, 3)).astype(np.float32)
    weights, held_out = fit(lambda block: features[block], targets)
    assert weights.shape == (5, 3)
    for row in range(12):
        others = np.delete(features, row, axis=0)
        without, _ = fit(lambda block, rows=others: rows[block], np.delete(targets, row, axis=0))  # type: ignore[misc]
        np.testing.assert_allclose(held_out[row], features[row] @ without, rtol=1e-4, atol=1e-5)


def test_blocks_do_not_change_the_map(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((len(CAPTIONS), 5)).astype(np.float32)
    whole = fit(lambda block: features[block], caption_vectors(CAPTIONS))
    monkeypatch.setattr("pipeline.retrieval.nearest.BLOCK", 3)
    parts = fit(lambda block: features[block], caption_vectors(CAPTIONS))
    np.testing.assert_allclose(np.abs(parts[0]), np.abs(whole[0]), rtol=1e-3, atol=1e-5)
