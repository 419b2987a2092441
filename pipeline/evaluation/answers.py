"""The answers of the best epoch to the questions about test images: their accuracy and their controls.

An answer is right if it equals the expected one after VQA's normalization (Antol et al., "VQA: Visual
Question Answering", 2015). VQA counts an answer that three of ten people gave as right; here one answer is
expected, the most frequent one.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.captions import CaptionRecord, Turn, select_split
from pipeline.evaluation.predictor import Predictor
from pipeline.files.json_files import JsonObject
from pipeline.metrics.bootstrap import share_interval
from pipeline.metrics.controls import shuffle_predictions
from pipeline.model.checkpoints import Checkpoint

_DIGITS = ("none zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_WORDS = {word: str(digit) for digit, words in enumerate(_DIGITS) for word in words.split()}
_ARTICLES = {"a", "an", "the"}
_PERIOD = re.compile(r"(?<!\d)\.|\.(?!\d)|['\u2019]|(?<=\d),(?=\d)")
_MARK = re.compile(r"[^\w\s.]|_")


def evaluate_answers(
    predictor: Predictor, checkpoint: Checkpoint, records: Sequence[CaptionRecord]
) -> tuple[JsonObject, list[JsonObject]]:
    """Answer the questions about test images that need no conversation before them.

    Returns the content of `answers` in metrics/evaluate.json, and what was asked and answered. Both are empty
    where there is nothing to ask, or the model was trained on captions alone.
    """
    asked = [(r.image_id, turn) for r in select_split(records, "test") for turn, *_ in r.conversations]
    if not asked or checkpoint.info.longest_answer is None:
        return {}, []
    questions = [turn.question for _, turn in asked]
    images = [image_id for image_id, _ in asked]
    answers = predictor.answer(checkpoint, "questions", images, questions)
    train = [turn for r in select_split(records, "train") for turn, *_ in r.conversations]
    controls = {"most_frequent": most_frequent_answers(train, [turn for _, turn in asked])}
    if len(set(images)) > 1:
        other = shuffle_predictions(dict(zip(images, images, strict=True)))
        shuffled = [other[image_id] for image_id in images]
        controls["shuffled"] = predictor.answer(checkpoint, "images shuffled", shuffled, questions)
    rows = [
        {
            "image_id": image_id,
            "kind": turn.kind,
            "question": turn.question,
            "expected": turn.answer,
            "answer": answer,
            "right": normalize_answer(turn.answer) == normalize_answer(answer),
        }
        for (image_id, turn), answer in zip(asked, answers, strict=True)
    ]
    return score_answers(asked, answers, controls), rows


def normalize_answer(text: str) -> str:
    """Put an answer in lower case, without articles and punctuation, its numbers up to ten as digits.

    VQA's table of contractions is not needed: apostrophes are taken out of both sides.
    """
    words = _MARK.sub(" ", _PERIOD.sub("", text.lower())).split()
    return " ".join(_WORDS.get(word, word) for word in words if word not in _ARTICLES)


def _kind(turn: Turn) -> str:
    return turn.kind or "other"


def most_frequent_answers(train: Iterable[Turn], asked: Iterable[Turn]) -> list[str]:
    """Return for each question that is asked the train answer that its kind has most often; "" for none."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for turn in train:
        counts[_kind(turn)][normalize_answer(turn.answer)] += 1
    best = {kind: min(c, key=lambda answer: (-c[answer], answer)) for kind, c in counts.items()}
    return [best.get(_kind(turn), "") for turn in asked]


def score_answers(
    asked: Sequence[tuple[str, Turn]], answers: Sequence[str], controls: Mapping[str, Sequence[str]]
) -> JsonObject:
    """Return the percentage of right answers, of all questions and by kind, with that of each control.

    Intervals (95 %) are of a bootstrap over images. `behind` is by how much a control is below the model.

    Args:
        asked: image id and question, one at least.
        answers: what the model answers.
        controls: what is answered without a look at the image, by a key of ANSWER_CONTROLS.
    """
    rows = {image_id: row for row, image_id in enumerate(dict.fromkeys(i for i, _ in asked))}
    image = np.array([rows[image_id] for image_id, _ in asked])  # [questions]
    right = {name: _right(asked, said) for name, said in {"model": answers, **controls}.items()}
    kinds = np.array([_kind(turn) for _, turn in asked])

    def score(among: NDArray[np.bool_]) -> JsonObject:
        total = np.bincount(image[among], minlength=len(rows))  # [images]
        hits = {n: np.bincount(image[among], r[among], len(rows)) for n, r in right.items()}

        def share(part: NDArray[np.number]) -> JsonObject:
            return {"accuracy": _percent(part, total), **share_interval(part, total)}

        others = {
            name: {"accuracy": _percent(hits[name], total), "behind": share(hits["model"] - hits[name])}
            for name in controls
        }
        return {"questions": int(total.sum()), **share(hits["model"]), "controls": others}

    by_kind = {str(kind): score(kinds == kind) for kind in sorted(set(kinds.tolist()))}
    return {**score(np.ones(len(asked), np.bool_)), "kinds": by_kind}


def _right(asked: Sequence[tuple[str, Turn]], said: Sequence[str]) -> NDArray[np.bool_]:
    pairs = zip(asked, said, strict=True)
    return np.array([normalize_answer(turn.answer) == normalize_answer(text) for (_, turn), text in pairs])


def _percent(part: NDArray[np.number], total: NDArray[np.int64]) -> float:
    return round(100 * float(part.sum() / total.sum()), 4)
