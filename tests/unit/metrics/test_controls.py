"""Controls: `pytest tests/unit/metrics/test_controls.py`."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.metrics import controls
from pipeline.metrics.controls import constant_caption, nearest_rows, shuffle_predictions
from pipeline.metrics.scores import measure

TRAIN = {
    "1": ["A dog runs on the grass.", "Grass."],
    "2": ["A dog runs on a beach.", "A brown dog."],
    "3": ["A dog sits on the grass.", "The dog is sitting."],
    "4": ["Two men.", "A boat on a lake at night."],
}
captions = st.lists(st.sampled_from(["a", "dog", "man", "runs", "red"]), max_size=6).map(" ".join)
images = st.text(min_size=1, max_size=2)


class TestConstantCaption:
    # At most 18 captions, so each is a candidate.
    @given(st.dictionaries(images, st.lists(captions, min_size=1, max_size=3), min_size=2, max_size=6))
    @settings(max_examples=25)
    def test_no_train_caption_scores_better_when_all_are_tried(self, train: dict[str, list[str]]) -> None:
        def cider(caption: str) -> float:
            return measure(dict.fromkeys(train, caption), train).scores()["cider"]

        best = max(cider(caption) for texts in train.values() for caption in texts)
        assert cider(constant_caption(train)) == pytest.approx(best, abs=1e-3)

    def test_the_estimate_selects_the_best_among_more_captions_than_are_tried(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        best = constant_caption(TRAIN)
        monkeypatch.setattr(controls, "MOST_CANDIDATES", 3)
        assert constant_caption(TRAIN) == best

    def test_it_is_the_text_as_written_and_does_not_depend_on_order(self) -> None:
        reordered = {image: texts[::-1] for image, texts in reversed(TRAIN.items())}
        assert constant_caption(TRAIN) == constant_caption(reordered) == "A dog runs on the grass."
        assert constant_caption({"1": ["b"], "2": ["c"], "3": ["a"]}) == "a", "of equals the first by text"


class TestShufflePredictions:
    @given(st.integers(2, 40), st.integers(0, 2**32))
    def test_every_caption_goes_to_another_image(self, count: int, seed: int) -> None:
        predictions = {f"{n}.jpg": f"caption {n}" for n in range(count)}
        shuffled = shuffle_predictions(predictions, seed)
        assert list(shuffled) == list(predictions)
        assert sorted(shuffled.values()) == sorted(predictions.values())
        assert all(shuffled[image] != predictions[image] for image in predictions)

    def test_the_seed_alone_decides(self) -> None:
        predictions = {str(n): str(n) for n in range(20)}
        reordered = dict(reversed(predictions.items()))
        assert shuffle_predictions(predictions, 1) == shuffle_predictions(reordered, 1)
        assert shuffle_predictions(predictions, 1) != shuffle_predictions(predictions, 2)


class TestNearestRows:
    # East, north, west, south of [1, 1].
    VECTORS = np.array([[2, 1], [1, 2], [0, 1], [1, 0]], dtype=np.float16)

    def rows(self, queries: Any, count: int = 1, vectors: NDArray[Any] = VECTORS) -> Any:
        return nearest_rows(lambda: [vectors], np.array(queries), count).tolist()

    def test_the_direction_from_the_mean_counts_and_the_length_does_not(self) -> None:
        assert self.rows([[1.1, 1.01], [1, 300], [-5, 1.5]]) == [[0], [1], [2]]
        assert self.rows([[2, 2], [1, 1]]) == [[0], [0]], "of equals the first, and zeros are near nothing"
        assert self.rows([[3, 2]], count=4) == [[0, 1, 3, 2]], "the nearest first"

    def test_a_channel_that_varies_little_counts_as_much_and_a_constant_channel_does_not(self) -> None:
        stretched = self.VECTORS * np.array([0.001, 100]) + 7
        stretched = np.column_stack([stretched, np.full(4, 0.1)])
        assert self.rows([[7.0011, 107.9, 0.1]], vectors=stretched) == [[0]]

    def test_float16_does_not_overflow(self) -> None:
        large = self.VECTORS * np.float16(30000)
        assert self.rows(large, vectors=large) == [[0], [1], [2], [3]]

    @given(st.integers(1, 50), st.integers(1, 50), st.integers(0, 1000))
    def test_blocks_do_not_change_the_result(self, count: int, size: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        train, queries = rng.standard_normal((50, 8)), rng.standard_normal((20, 8))
        rows = nearest_rows(lambda: np.split(train, range(size, 50, size)), queries, count)
        assert rows.tolist() == nearest_rows(lambda: [train], queries, 50)[:, :count].tolist()
