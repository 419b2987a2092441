"""Answers are compared as VQA compares them: `pytest tests/unit/evaluation/test_answers.py`."""

import pytest

from pipeline.captions import Turn
from pipeline.evaluation.answers import most_frequent_answers, normalize_answer, score_answers


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("A Red Circle.", "red circle"),
        ("none", "0"),
        ("Two", "2"),
        ("the two dogs", "2 dogs"),
        ("yes!", "yes"),
        ("it's 3.5, about", "its 3.5 about"),  # a period between digits stays
        ("1,000", "1000"),
        ("black/white", "black white"),
        ("", ""),
    ],
)
def test_case_articles_punctuation_and_number_words_do_not_count(text: str, normal: str) -> None:
    assert normalize_answer(text) == normal


COLOR, COUNT = Turn("What color?", "red", "color"), Turn("How many?", "two", "count")


def test_the_most_frequent_train_answer_is_that_of_the_kind() -> None:
    train = [COLOR, Turn("Which?", "blue", "color"), Turn("Which?", "Blue.", "color"), COUNT]
    asked = [COLOR, COUNT, Turn("Where?", "here", "place")]
    assert most_frequent_answers(train, asked) == ["blue", "2", ""]
    # As in the accuracy by kind: VQA v2 has a kind "other", and a question may have none.
    assert most_frequent_answers([Turn("Why?", "so")], [Turn("Who?", "she", "other")]) == ["so"]


def test_accuracy_is_of_all_questions_and_of_each_kind_next_to_controls() -> None:
    asked = [("a", COLOR), ("a", COUNT), ("b", COLOR), ("b", Turn("Why?", "so"))]
    scores = score_answers(asked, ["A red.", "3", "red", "so"], {"shuffled": ["blue", "2", "red", "no"]})
    assert (scores["questions"], scores["accuracy"]) == (4, 75)
    # Both images have half or all of their answers right.
    assert 50 <= scores["low"] <= 75 <= scores["high"] <= 100
    shuffled = scores["controls"]["shuffled"]
    assert (shuffled["accuracy"], shuffled["behind"]["accuracy"]) == (50, 25)
    assert (shuffled["behind"]["low"], shuffled["behind"]["high"]) == (0, 50)
    kinds = {name: (row["questions"], row["accuracy"]) for name, row in scores["kinds"].items()}
    assert kinds == {"other": (1, 100), "color": (2, 100), "count": (1, 0)}
