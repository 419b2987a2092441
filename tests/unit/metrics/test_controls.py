"""Controls: `pytest tests/unit/metrics/test_controls.py`."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.metrics import controls
from pipeline.metrics.controls import constant_caption, shuffle_predictions
from pipeline.metrics.scores import measure

TRAIN = {
    "1": ["A dog runs on the grass.", "Grass."],
    "2": ["A dog runs on a beach.", "A brown dog."],
    "3": ["A dog sits on the grass.", "The dog is sitting."],
    "4": ["Two men.", "A boat on a lake at night."],
}
captions = st.lists(st.sampled_from(["a", "dog", "man", "runs", "red"]), max_size=6).map(" ".join)
images = st.text(min_size=1, max_size=2)


# At most 18 captions, so each is a candidate.
@given(st.dictionaries(images, st.lists(captions, min_size=1, max_size=3), min_size=2, max_size=6))
@settings(max_examples=25)
def test_no_train_caption_scores_better_when_all_are_tried(train: dict[str, list[str]]) -> None:
    def cider(caption: str) -> float:
        return measure(dict.fromkeys(train, caption), train).scores()["cider"]

    best = max(cider(caption) for texts in train.values() for caption in texts)
    assert cider(constant_caption(train)) == pytest.approx(best, abs=1e-3)


def test_the_estimate_selects_the_best_of_many_captions(monkeypatch: pytest.MonkeyPatch) -> None:
    best = constant_caption(TRAIN)
    monkeypatch.setattr(controls, "MOST_CANDIDATES", 3)
    assert constant_caption(TRAIN) == best


def test_the_constant_is_the_text_as_written_and_does_not_depend_on_order() -> None:
    reordered = {image: texts[::-1] for image, texts in reversed(TRAIN.items())}
    assert constant_caption(TRAIN) == constant_caption(reordered) == "A dog runs on the grass."
    assert constant_caption({"1": ["b"], "2": ["c"], "3": ["a"]}) == "a", "of equals the first by text"


@given(st.integers(2, 40))
def test_every_shuffled_caption_goes_to_another_image(count: int) -> None:
    predictions = {f"{n}.jpg": f"caption {n}" for n in range(count)}
    shuffled = shuffle_predictions(predictions)
    assert list(shuffled) == list(predictions)
    assert sorted(shuffled.values()) == sorted(predictions.values())
    assert all(shuffled[image] != predictions[image] for image in predictions)
    assert shuffle_predictions(dict(reversed(predictions.items()))) == shuffled
