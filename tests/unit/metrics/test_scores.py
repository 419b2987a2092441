"""BLEU, CIDEr-D and ROUGE-L: `pytest tests/unit/metrics/test_scores.py`."""

from math import exp

import pytest

from pipeline.files.json_files import read_json, read_jsonl
from pipeline.metrics.bleu import bleu_counts, bleu_from_counts
from pipeline.metrics.cider import cider_d
from pipeline.metrics.rouge import rouge_l
from pipeline.metrics.scores import SCORES, measure
from tests.refusals import refusal
from tests.shared_data import shared_folder

tokens = str.split


def corpus_bleu(predictions: list[list[str]], references: list[list[list[str]]]) -> list[float]:
    return [float(score) for score in bleu_from_counts(bleu_counts(predictions, references).sum(axis=0))]


def score(predictions: dict[str, str], references: dict[str, list[str]]) -> dict[str, float]:
    return measure(predictions, references).scores()


REFERENCES = {"1": ["A red dog.", "A dog runs."], "2": ["Two men sit."]}


@pytest.mark.parametrize("as_sentences", [False, True])
def test_every_figure_of_a_published_system_is_reproduced(as_sentences: bool) -> None:
    """1000 captions with the figures that pycocoevalcap gives; capitals and a period change nothing."""
    folder = shared_folder("metrics-reference")
    predictions = {row["image_id"]: row["caption"] for _, row in read_jsonl(folder / "predictions.jsonl")}
    references = {row["image_id"]: row["captions"] for _, row in read_jsonl(folder / "references.jsonl")}
    expected = read_json(folder / "expected.json")
    if as_sentences:
        predictions = {image: f"{caption.capitalize()}." for image, caption in predictions.items()}
    scores = score(predictions, references)
    assert {name: scores[name] for name in expected} == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("caption", "references", "bleu_1"),
    [
        # Counts are clipped at the most that one reference has.
        ("the the the the", ["the cat is the", "the mat is red"], 50),
        # Of two equally close references the shorter sets the length: there is no penalty for brevity.
        ("a b c", ["a b", "a b c d"], 100),
        ("a", ["a b"], 100 * exp(1 - 2)),
    ],
)
def test_bleu_clips_counts_and_penalizes_brevity(caption: str, references: list[str], bleu_1: float) -> None:
    assert corpus_bleu([tokens(caption)], [list(map(tokens, references))])[0] == pytest.approx(bleu_1)


def test_a_bleu_order_without_a_match_scores_next_to_nothing_but_not_0() -> None:
    # As pycocoevalcap: 1e-15 stands for no match, 1e-9 for no guess.
    scores = corpus_bleu([tokens("b a")], [[tokens("a b")]])
    zero = 1e-15
    expected = (1, zero ** (1 / 2), (zero * 1e-6) ** (1 / 3), (zero * 1e-6 * 1e-6) ** (1 / 4))
    assert scores == pytest.approx([100 * value for value in expected], rel=1e-6)


def test_cider_of_the_only_reference_is_10_and_of_words_of_every_image_0() -> None:
    texts = [tokens("a red dog runs fast"), tokens("two men sit down here")]
    assert cider_d(texts, [[caption] for caption in texts]) == pytest.approx([10, 10])
    assert cider_d([["a"], ["a"]], [[tokens("a red dog")], [tokens("a blue cat")]]) == [0, 0]
    assert cider_d([["a", "dog"]], [[["a", "dog"]]]) == [0], "a single image has no idf"


@pytest.mark.parametrize(
    ("caption", "references", "precision", "recall"),
    [
        # Common words count in their order: "a dog runs".
        ("a dog runs red", ["a red dog often runs"], 3 / 4, 3 / 5),
        # Precision comes from the long reference, recall from the short one.
        ("a dog", ["a dog in the snow", "dog"], 1, 1),
        # A caption without tokens equals another without tokens.
        ("", ["dog", ""], 1, 1),
        ("", ["dog"], 0, 0),
    ],
)
def test_precision_and_recall_of_rouge_are_the_best_of_any_reference(
    caption: str, references: list[str], precision: float, recall: float
) -> None:
    (value,) = rouge_l([tokens(caption)], [list(map(tokens, references))])
    weighed = 2.44 * precision * recall / (recall + 1.44 * precision) if precision else 0
    assert value == pytest.approx(weighed)


def test_an_empty_prediction_is_scored() -> None:
    whole = score({"1": "A red dog.", "2": "Two men sit."}, REFERENCES)
    half = score({"1": "A red dog.", "2": ""}, REFERENCES)
    assert list(half) == [*SCORES, "words", "images"]
    assert all(0 < half[name] < whole[name] for name in ("cider", "rouge_l", "bleu_1"))
    nothing = score({"1": "", "2": "."}, REFERENCES)
    assert nothing == dict.fromkeys([*SCORES, "words"], 0) | {"images": 2}


def test_a_blank_inside_a_token_parts_it_but_for_rouge() -> None:
    scores = score({"1": "1 1/2"}, {"1": ["1"]})  # one token for ROUGE, two for BLEU
    assert scores["rouge_l"] == 0
    assert scores["bleu_1"] == pytest.approx(50)


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ("", {image: ["A dog."] for image in "dcba"}, r"for 4 images: 'a', 'b', 'c' and 1 more"),
        ("1z", REFERENCES, r"for 1 image: '2' and .* references for 1 image: 'z'\..*--split"),
        ("", {}, "no images to score"),
    ],
)
def test_images_without_predictions_or_references_are_named(
    predictions: str, references: dict[str, list[str]], message: str
) -> None:
    refusal(score, dict.fromkeys(predictions, "A cat."), references, match=message)
