"""Which epoch is best: `pytest tests/unit/evaluation/test_choice.py`."""

import pytest

from pipeline.evaluation.choice import choose_epoch
from pipeline.metrics.scores import PerImageScores, choice_sentence, measure

REFERENCES = {str(i): [f"a{i} red{i} dog{i} runs{i} on{i} grass{i}"] for i in range(40)}


def system(right: int, words: int = 6) -> PerImageScores:
    """The first `right` captions begin with `words` words of their reference; all others are wrong."""
    captions = {}
    for image, texts in REFERENCES.items():
        count = words if int(image) < right else 0
        captions[image] = " ".join([*texts[0].split()[:count], *["water"] * (6 - count)])
    return measure(captions, REFERENCES)


@pytest.mark.parametrize(
    ("right", "losses", "expected"),
    [
        # A clear lead decides, whatever the loss.
        ((10, 30), (2.0, 3.0), (2, "bleu_4", [2])),
        # One more caption right is no difference: less loss, and of equal losses the first epoch.
        ((20, 21), (2.0, 3.0), (1, "dev_loss", [1, 2])),
        ((20, 20), (2.0, 2.0), (1, "dev_loss", [1, 2])),
        # An epoch that is clearly worse is no candidate, even with the lowest loss.
        ((5, 30, 31), (1.0, 2.0, 3.0), (2, "dev_loss", [2, 3])),
    ],
)
def test_the_score_decides_and_the_loss_where_the_score_cannot(
    right: tuple[int, ...], losses: tuple[float, ...], expected: tuple[int, str, list[int]]
) -> None:
    scores = {epoch: system(count) for epoch, count in enumerate(right, start=1)}
    epoch, metrics = choose_epoch(scores, dict(enumerate(losses, start=1)), "bleu_4")
    assert (epoch, metrics["choice"]["decided_by"], metrics["choice"]["candidates"]) == expected


def test_bleu_4_of_captions_without_a_common_4_gram_decides_nothing() -> None:
    """On little data dev BLEU-4 0.0003 against 0.0000 won over a loss of 3.87 against 4.33."""
    scores = {1: system(40, words=3), 2: system(40, words=1)}
    values = [per_image.scores()["bleu_4"] for per_image in scores.values()]
    assert 0.01 > values[0] > 2 * values[1]
    epoch, metrics = choose_epoch(scores, {1: 4.33, 2: 3.87}, "bleu_4")
    choice = metrics["choice"]
    assert (epoch, choice["decided_by"], choice["highest_epoch"]) == (2, "dev_loss", 1)


def test_a_single_epoch_is_best_without_a_choice() -> None:
    assert choose_epoch({3: system(1)}, {3: 1.0}, "cider") == (3, {"selected_by": "cider"})
    assert choice_sentence({"selected_by": "cider"}) == ""


@pytest.mark.parametrize(
    ("decided_by", "candidates", "sentence"),
    [
        ("bleu_4", [3], "BLEU-4 on dev decides: epoch 3 leads epoch 2 by 1.50, 95 % interval 0.50 to 2.00."),
        (
            "dev_loss",
            [1, 2, 3],
            "BLEU-4 on dev does not tell epochs 1, 2 and 3 apart (epoch 3 leads epoch 2 by 1.50, "
            "95 % interval 0.50 to 2.00): the lowest loss on dev decides.",
        ),
    ],
)
def test_a_sentence_says_what_decided(decided_by: str, candidates: list[int], sentence: str) -> None:
    choice = {"decided_by": decided_by, "candidates": candidates, "highest_epoch": 3, "next_best_epoch": 2}
    choice |= {"lead": 1.5, "low": 0.5, "high": 2.0}
    assert choice_sentence({"selected_by": "bleu_4", "choice": choice}) == sentence
