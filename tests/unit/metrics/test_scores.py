"""BLEU, CIDEr-D and ROUGE-L: `pytest tests/unit/metrics/test_scores.py`."""

import json
from dataclasses import fields, replace

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


class TestPublishedSystem:
    """1000 captions of a published system, with the figures that pycocoevalcap gives."""

    def test_every_figure_is_reproduced(self, published: Published) -> None:
        predictions, references, expected = published
        found = score(predictions, references).as_dict()
        assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-4)

    def test_capitals_and_a_final_period_change_nothing(self, published: Published) -> None:
        predictions, references, expected = published
        written = {image: f"{caption.capitalize()}." for image, caption in predictions.items()}
        found = score(written, references).as_dict()
        assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-4)


class TestBleu:
    def test_all_of_a_reference_scores_100(self) -> None:
        caption = tokens("a man in a red shirt")
        assert corpus_bleu([caption], [[["a", "dog"], caption]]) == pytest.approx([100] * 4)

    def test_counts_are_clipped_at_the_most_that_one_reference_has(self) -> None:
        bleu_1, *_ = corpus_bleu([["the"] * 4], [[tokens("the cat is the"), tokens("the mat is red")]])
        assert bleu_1 == pytest.approx(50)

    def test_of_two_equally_close_references_the_shorter_sets_the_length(self) -> None:
        # Three words against two and four: against two there is no penalty for brevity.
        bleu_1, *_ = corpus_bleu([tokens("a b c")], [[tokens("a b"), tokens("a b c d")]])
        assert bleu_1 == pytest.approx(100)

    def test_short_captions_pay_for_brevity(self) -> None:
        bleu_1, *_ = corpus_bleu([["a"]], [[["a", "b"]]])
        assert bleu_1 == pytest.approx(100 * 2.718281828459045 ** (1 - 2))

    def test_an_order_without_a_match_scores_next_to_nothing_but_not_0(self) -> None:
        # As pycocoevalcap: 1e-15 stands for no match, 1e-9 for no guess.
        scores = corpus_bleu([tokens("b a")], [[tokens("a b")]])
        zero = 1e-15
        expected = (1, zero ** (1 / 2), (zero * 1e-6) ** (1 / 3), (zero * 1e-6 * 1e-6) ** (1 / 4))
        assert scores == pytest.approx([100 * value for value in expected], rel=1e-6)

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
    def test_the_only_reference_said_again_scores_10(self) -> None:
        said = [tokens("a red dog runs fast"), tokens("two men sit down here")]
        assert cider_d(said, [[caption] for caption in said]) == pytest.approx([10, 10])

    def test_words_of_every_image_count_for_nothing(self) -> None:
        references = [[tokens("a red dog")], [tokens("a blue cat")]]
        assert cider_d([["a"], ["a"]], references) == [0, 0]

    def test_repeating_does_not_pay(self) -> None:
        references = [[tokens("a red dog runs")], [tokens("two men sit down")]]
        once, _ = cider_d([tokens("a red dog runs"), ["men"]], references)
        twice, _ = cider_d([tokens("a red dog runs a red dog runs"), ["men"]], references)
        assert twice < 0.8 * once

    def test_a_single_image_has_no_idf_and_scores_0(self) -> None:
        assert cider_d([["a", "dog"]], [[["a", "dog"]]]) == [0]

    def test_predictions_and_references_are_of_equally_many_images(self) -> None:
        with pytest.raises(ValueError, match="1 predictions, but references of 2 images"):
            cider_d([["a"]], [[["a"]], [["b"]]])

    @given(images)
    def test_lies_between_0_and_10(self, corpus: list[tuple[list[str], list[list[str]]]]) -> None:
        predictions, references = zip(*corpus, strict=True)
        assert all(0 <= value <= 10 + 1e-9 for value in cider_d(predictions, references))


class TestRouge:
    def test_common_words_count_in_their_order(self) -> None:
        # Common subsequence "a dog runs": precision 3/4, recall 3/5.
        (value,) = rouge_l([tokens("a dog runs red")], [[tokens("a red dog often runs")]])
        precision, recall = 3 / 4, 3 / 5
        assert value == pytest.approx(2.44 * precision * recall / (recall + 1.44 * precision))

    def test_precision_and_recall_are_the_best_of_any_reference(self) -> None:
        # Precision 2/2 comes from the long reference, recall 1/1 from the short one.
        assert rouge_l([["a", "dog"]], [[tokens("a dog in the snow"), ["dog"]]]) == pytest.approx([1])

    def test_a_caption_without_tokens_equals_another_without_tokens(self) -> None:
        assert rouge_l([[], [], ["dog"]], [[["dog"], []], [["dog"]], [[]]]) == pytest.approx([1, 0, 0])

    @given(images)
    def test_lies_between_0_and_1_and_is_1_for_a_reference(
        self, corpus: list[tuple[list[str], list[list[str]]]]
    ) -> None:
        predictions, references = zip(*corpus, strict=True)
        assert all(0 <= value <= 1 for value in rouge_l(predictions, references))
        repeated = [of_image[0] or ["a"] for of_image in references]
        theirs = [[caption] for caption in repeated]
        assert rouge_l(repeated, theirs) == pytest.approx([1] * len(repeated))


class TestScore:
    def test_words_is_the_mean_length_and_images_their_number(self) -> None:
        found = score({"1": "A dog.", "2": "two men sit down ."}, REFERENCES)
        assert (found.words, found.images) == (3, 2)

    def test_an_empty_prediction_is_scored(self) -> None:
        whole = score({"1": "A red dog.", "2": "Two men sit."}, REFERENCES)
        half = score({"1": "A red dog.", "2": ""}, REFERENCES)
        assert 0 < half.cider < whole.cider
        assert 0 < half.rouge_l < whole.rouge_l
        assert 0 < half.bleu_1 < whole.bleu_1

    def test_nothing_but_empty_predictions_scores_0(self) -> None:
        found = score({"1": "", "2": "."}, REFERENCES)
        assert found == Scores(0, 0, 0, 0, 0, 0, words=0, images=2)

    def test_a_blank_inside_a_token_parts_it_but_for_rouge(self) -> None:
        found = score({"1": "1 1/2"}, {"1": ["1"]})  # one token for ROUGE, two for BLEU
        assert found.rouge_l == 0
        assert found.bleu_1 == pytest.approx(50)

    def test_the_order_of_images_changes_nothing(self) -> None:
        predictions = {"1": "A dog sits.", "2": "Two men run."}
        reordered = dict(reversed(predictions.items()))
        assert score(reordered, REFERENCES) == score(predictions, REFERENCES)

    def test_missing_predictions_are_counted_and_named(self) -> None:
        with pytest.raises(PipelineError, match=r"no prediction for 4 images: 'a', 'b', 'c' …"):
            score({}, {image: ["A dog."] for image in "dcba"})

    def test_surplus_predictions_are_named(self) -> None:
        with pytest.raises(PipelineError, match=r"no references for 1 image: '3';"):
            score({"1": "", "2": "", "3": "A cat."}, REFERENCES)

    def test_of_images_of_both_kinds_both_are_named_with_the_option_that_may_be_meant(self) -> None:
        said = (
            r"no prediction for 1 image: '2' and a prediction but no references for 1 image: 'zzz'; .*--split"
        )
        with pytest.raises(PipelineError, match=said):
            score({"1": "A dog.", "zzz": "A cat."}, REFERENCES)

    def test_an_image_without_references_is_named(self) -> None:
        with pytest.raises(PipelineError, match=r"empty list of references for 1 image: '2'"):
            score({"1": "", "2": ""}, {**REFERENCES, "2": []})

    def test_no_image_at_all_is_an_error(self) -> None:
        with pytest.raises(PipelineError, match="no images to score"):
            score({}, {})

    def test_the_dictionary_has_every_field_rounded(self) -> None:
        found = replace(score({"1": "A dog.", "2": ""}, REFERENCES), cider=1 / 3).as_dict()
        assert list(found) == [field.name for field in fields(Scores)]
        assert found["cider"] == 0.3333
        assert isinstance(found["images"], int)
