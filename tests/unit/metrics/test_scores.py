"""BLEU, CIDEr-D and ROUGE-L: `pytest tests/unit/metrics/test_scores.py`."""

import json
from collections.abc import Iterable
from dataclasses import fields, replace
from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.translate import bleu_score

from pipeline.errors import PipelineError
from pipeline.metrics.bleu import bleu_counts, bleu_of_counts
from pipeline.metrics.cider import cider_d
from pipeline.metrics.rouge import rouge_l
from pipeline.metrics.scores import Scores, score
from tests.shared_data import metrics_reference


def tokens(text: str) -> list[str]:
    return text.split()


def ngrams(words: list[str], order: int) -> list[tuple[str, ...]]:
    return [tuple(words[start : start + order]) for start in range(len(words) - order + 1)]


def corpus_bleu(predictions: list[list[str]], references: list[list[list[str]]]) -> list[float]:
    return [float(score) for score in bleu_of_counts(bleu_counts(predictions, references).sum(axis=0))]


words = st.sampled_from(["a", "man", "dog", "in", "red"])
captions = st.lists(words, max_size=8)
long_captions = st.lists(words, min_size=4, max_size=8)
images = st.lists(st.tuples(captions, st.lists(captions, min_size=1, max_size=4)), min_size=1, max_size=5)

REFERENCES = {"1": ["A red dog.", "A dog runs."], "2": ["Two men sit."]}

Published = tuple[dict[str, str], dict[str, list[str]], dict[str, float]]


@pytest.fixture(scope="module")
def published() -> Published:
    """Predictions, references, and pycocoevalcap's scores of them."""
    folder = metrics_reference()

    def rows(name: str) -> list[dict[str, str]]:
        return [json.loads(line) for line in (folder / name).read_text("utf-8").splitlines()]

    predictions = {row["image_id"]: row["caption"] for row in rows("predictions.jsonl")}
    references = {row["image_id"]: list(row["captions"]) for row in rows("references.jsonl")}
    return predictions, references, json.loads((folder / "expected.json").read_text("utf-8"))


@pytest.mark.parametrize("written", ["{}", "{}."])
def test_every_figure_of_a_published_system_is_reproduced(published: Published, written: str) -> None:
    """1000 captions with the figures that pycocoevalcap gives; capitals and a period change nothing."""
    predictions, references, expected = published
    said = {
        image: written.format(caption.capitalize() if "." in written else caption)
        for image, caption in predictions.items()
    }
    found = score(said, references).as_dict()
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-4)


class TestBleu:
    @pytest.mark.parametrize(
        ("said", "references", "bleu_1"),
        [
            # Counts are clipped at the most that one reference has.
            ("the the the the", ["the cat is the", "the mat is red"], 50),
            # Of two equally close references the shorter sets the length: there is no penalty for brevity.
            ("a b c", ["a b", "a b c d"], 100),
            ("a", ["a b"], 100 * exp(1 - 2)),
        ],
    )
    def test_words_are_clipped_and_short_captions_pay(
        self, said: str, references: list[str], bleu_1: float
    ) -> None:
        assert corpus_bleu([tokens(said)], [list(map(tokens, references))])[0] == pytest.approx(bleu_1)

    def test_all_of_a_reference_scores_100(self) -> None:
        caption = tokens("a man in a red shirt")
        assert corpus_bleu([caption], [[["a", "dog"], caption]]) == pytest.approx([100] * 4)

    def test_an_order_without_a_match_scores_next_to_nothing_but_not_0(self) -> None:
        # As pycocoevalcap: 1e-15 stands for no match, 1e-9 for no guess.
        scores = corpus_bleu([tokens("b a")], [[tokens("a b")]])
        zero = 1e-15
        expected = (1, zero ** (1 / 2), (zero * 1e-6) ** (1 / 3), (zero * 1e-6 * 1e-6) ** (1 / 4))
        assert scores == pytest.approx([100 * value for value in expected], rel=1e-6)

    @given(st.lists(st.tuples(captions, st.lists(captions, min_size=1, max_size=4)), max_size=5))
    def test_counts_are_those_of_the_definition(
        self, corpus: list[tuple[list[str], list[list[str]]]]
    ) -> None:
        """Of empty captions too, where NLTK counts a guess."""
        for said, references in corpus:
            (found,) = bleu_counts([said], [references]).tolist()
            for order in range(1, 5):
                guesses = ngrams(said, order)
                most = {n: max(ngrams(r, order).count(n) for r in references) for n in guesses}
                assert found[order - 1] == sum(min(guesses.count(n), most[n]) for n in most)
                assert found[order + 3] == len(guesses)
            assert found[8] == len(said)
            assert found[9] == min((abs(len(r) - len(said)), len(r)) for r in references)[1]

    @given(st.lists(st.tuples(long_captions, st.lists(captions, min_size=1, max_size=4)), max_size=5))
    def test_equals_nltk_where_every_order_is_guessed_and_matched(
        self, corpus: list[tuple[list[str], list[list[str]]]]
    ) -> None:
        # An image whose caption is its reference makes sure of a match.
        same = tokens("the cat sat on the mat")
        predictions = [same, *(prediction for prediction, _ in corpus)]
        references = [[same], *(of_image for _, of_image in corpus)]
        for order, found in enumerate(corpus_bleu(predictions, references), start=1):
            expected = bleu_score.corpus_bleu(references, predictions, weights=[1 / order] * order)
            assert found == pytest.approx(100 * expected, rel=1e-6)


class TestCider:
    def test_the_only_reference_said_again_scores_10_and_words_of_every_image_0(self) -> None:
        said = [tokens("a red dog runs fast"), tokens("two men sit down here")]
        assert cider_d(said, [[caption] for caption in said]) == pytest.approx([10, 10])
        assert cider_d([["a"], ["a"]], [[tokens("a red dog")], [tokens("a blue cat")]]) == [0, 0]
        assert cider_d([["a", "dog"]], [[["a", "dog"]]]) == [0], "a single image has no idf"

    def test_repeating_does_not_pay(self) -> None:
        references = [[tokens("a red dog runs")], [tokens("two men sit down")]]
        once, _ = cider_d([tokens("a red dog runs"), ["men"]], references)
        twice, _ = cider_d([tokens("a red dog runs a red dog runs"), ["men"]], references)
        assert twice < 0.8 * once

    def test_predictions_and_references_are_of_equally_many_images(self) -> None:
        with pytest.raises(ValueError, match="1 predictions, but references of 2 images"):
            cider_d([["a"]], [[["a"]], [["b"]]])


class TestRouge:
    @pytest.mark.parametrize(
        ("said", "references", "precision", "recall"),
        [
            # Common words count in their order: "a dog runs".
            ("a dog runs red", ["a red dog often runs"], 3 / 4, 3 / 5),
            # Precision comes from the long reference, recall from the short one.
            ("a dog", ["a dog in the snow", "dog"], 1, 1),
            # A caption without tokens equals another without tokens.
            ("", ["dog", ""], 1, 1),
            ("", ["dog"], 0, 0),
            ("dog", [""], 0, 0),
        ],
    )
    def test_precision_and_recall_are_the_best_of_any_reference(
        self, said: str, references: list[str], precision: float, recall: float
    ) -> None:
        (value,) = rouge_l([tokens(said)], [list(map(tokens, references))])
        weighed = 2.44 * precision * recall / (recall + 1.44 * precision) if precision else 0
        assert value == pytest.approx(weighed)


@given(images)
def test_scores_lie_within_their_bounds(corpus: list[tuple[list[str], list[list[str]]]]) -> None:
    predictions, references = zip(*corpus, strict=True)
    assert all(0 <= value <= 10 + 1e-9 for value in cider_d(predictions, references))
    assert all(0 <= value <= 1 for value in rouge_l(predictions, references))
    repeated = [of_image[0] or ["a"] for of_image in references]
    assert rouge_l(repeated, [[caption] for caption in repeated]) == pytest.approx([1] * len(repeated))


class TestScore:
    def test_words_is_the_mean_length_and_images_their_number(self) -> None:
        found = score({"1": "A dog.", "2": "two men sit down ."}, REFERENCES)
        assert (found.words, found.images) == (3, 2)

    def test_an_empty_prediction_is_scored(self) -> None:
        whole = score({"1": "A red dog.", "2": "Two men sit."}, REFERENCES)
        half = score({"1": "A red dog.", "2": ""}, REFERENCES)
        for name in ("cider", "rouge_l", "bleu_1"):
            assert 0 < getattr(half, name) < getattr(whole, name)
        nothing = score({"1": "", "2": "."}, REFERENCES)
        assert nothing == Scores(0, 0, 0, 0, 0, 0, words=0, images=2)

    def test_a_blank_inside_a_token_parts_it_but_for_rouge(self) -> None:
        found = score({"1": "1 1/2"}, {"1": ["1"]})  # one token for ROUGE, two for BLEU
        assert found.rouge_l == 0
        assert found.bleu_1 == pytest.approx(50)

    def test_the_order_of_images_changes_nothing(self) -> None:
        predictions = {"1": "A dog sits.", "2": "Two men run."}
        reordered = dict(reversed(predictions.items()))
        assert score(reordered, REFERENCES) == score(predictions, REFERENCES)

    @pytest.mark.parametrize(
        ("predictions", "references", "message"),
        [
            (
                "",
                {image: ["A dog."] for image in "dcba"},
                r"for 4 images: 'a', 'b', 'c' and 1 more",
            ),
            ("123", REFERENCES, r"no references for 1 image: '3';"),
            (
                ["1", "z"],
                REFERENCES,
                r"prediction for 1 image: '2' and .* references for 1 image: 'z'; .*--split",
            ),
            ("12", {**REFERENCES, "2": []}, r"empty list of references for 1 image: '2'"),
            ("", {}, "no images to score"),
        ],
    )
    def test_images_without_predictions_or_references_are_named(
        self, predictions: Iterable[str], references: dict[str, list[str]], message: str
    ) -> None:
        with pytest.raises(PipelineError, match=message):
            score(dict.fromkeys(predictions, "A cat."), references)

    def test_the_dictionary_has_every_field_rounded(self) -> None:
        found = replace(score({"1": "A dog.", "2": ""}, REFERENCES), cider=1 / 3).as_dict()
        assert list(found) == [field.name for field in fields(Scores)]
        assert found["cider"] == 0.3333
        assert isinstance(found["images"], int)
