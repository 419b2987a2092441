"""The consensus of captions: `pytest tests/unit/metrics/test_consensus.py`."""

from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.metrics import consensus
from pipeline.metrics.cider import TfIdf, similarities, similarity
from pipeline.metrics.consensus import Consensus
from pipeline.metrics.tokenizer import caption_words

TRAIN = [
    ["A dog runs on grass.", "A brown dog.", "Lovely weather!"],
    ["The dog runs on grass.", "Two men."],
    ["A cat sleeps."],
    ["A cat sleeps on a sofa.", "A cat sleeps."],
]


def test_the_consensus_is_the_caption_most_similar_to_all_others() -> None:
    consensus = Consensus(TRAIN)
    assert {consensus.caption(rows) for rows in ([0, 1], [1, 0])} == {"A dog runs on grass."}
    # A caption that was given to two images counts twice.
    assert {consensus.caption(rows) for rows in ([0, 2, 3], [1, 3, 2], [2])} == {"A cat sleeps."}


@pytest.mark.parametrize("train", [[["b", "a"], ["c"]], [["red dog", "dog red"]], [["", "a"]]])
def test_of_equals_the_consensus_is_the_first_of_the_nearest_image(train: list[list[str]]) -> None:
    assert Consensus(train).caption(range(len(train))) == train[0][0]
    assert Consensus(train).caption([len(train) - 1]) == train[-1][0]


def test_of_too_many_captions_the_nearest_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consensus, "MOST_CANDIDATES", 5)
    assert Consensus(TRAIN).caption([0, 1, 2, 3, 3, 3]) == "A dog runs on grass."


# The nearest image shows a cat, three of the nearest five a dog, four of all eight men.
ANIMALS = (["A cat."], ["A dog runs."], ["Two men sit."])
ROWS = np.array([[0, 1, 1, 1, 2, 2, 2, 2]] * 2)


@pytest.mark.parametrize(
    ("reference", "expected"),
    [("A cat.", 1), ("A dog runs.", 5), ("Two men sit.", 8), ("Nothing like any of them.", 1)],
)
def test_the_number_of_neighbors_scores_best_or_is_the_least(reference: str, expected: int) -> None:
    references = [[reference], ["Something else."]]
    assert Consensus(ANIMALS).choose_neighbors(ROWS, references) == expected


SIMILAR = (["A dog runs.", "A brown dog."], ["A dog runs.", "A dog."])


def test_agreement_is_the_mean_cider_d_to_captions_of_similar_images() -> None:
    tf_idf = TfIdf([caption_words(caption) for caption in captions] for captions in TRAIN)
    texts = ["A brown dog runs fast.", *chain.from_iterable(SIMILAR)]
    caption, *others = (tf_idf.vector(caption_words(text)) for text in texts)
    expected = np.mean([10 / 4 * similarity(caption, other) for other in others])
    assert Consensus(TRAIN).agreement(texts[:1], SIMILAR) == pytest.approx([expected])


def test_a_caption_is_compared_with_equal_captions_but_not_with_itself() -> None:
    consensus = Consensus(TRAIN)
    (alone,) = consensus.agreement(["A cat sleeps!"], [["A cat sleeps."]])
    (twice,) = consensus.agreement(["A cat sleeps!"], [["A cat sleeps."], ["A cat sleeps."]])
    assert alone == 0
    assert twice == pytest.approx(10 * 3 / 4)  # three words have no four words in a row


captions = st.lists(st.sampled_from(["a", "dog", "man", "runs", "red"]), max_size=8)


@given(st.lists(captions, min_size=1, max_size=6))
def test_similarities_are_those_of_every_pair(texts: list[list[str]]) -> None:
    tf_idf = TfIdf([texts, [["a", "dog"]], [["a", "man"]]])
    vectors = [tf_idf.vector(text) for text in texts]
    expected = [[similarity(a, b) if a is not b else 0 for b in vectors] for a in vectors]
    assert similarities(vectors) == pytest.approx(np.array(expected))
