"""ROUGE-L (Lin 2004), as pycocoevalcap computes it: how long a subsequence captions share."""

from collections.abc import Sequence

BETA = 1.2  # weighs recall over precision

_EMPTY = ("",)


def rouge_l(
    predictions: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> list[float]:
    """Return ROUGE-L (0 to 1) of each tokenized caption; papers print the mean times 100.

    Precision and recall are each the best over the references, not necessarily of the same reference. A
    caption without tokens counts as one empty token: it scores 1 if a reference has no tokens either, else 0.
    """
    return [
        _score(prediction or _EMPTY, [reference or _EMPTY for reference in captions])
        for prediction, captions in zip(predictions, references, strict=True)
    ]


def _score(prediction: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    common = [_common_length(prediction, r) for r in references]
    if not any(common):
        return 0.0
    precision = max(common) / len(prediction)
    recall = max(c / len(r) for c, r in zip(common, references, strict=True))
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def _common_length(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of the longest common subsequence, computed row by row."""
    row = [0] * (len(second) + 1)
    for token in first:
        diagonal = 0
        for column, other in enumerate(second, start=1):
            above = row[column]
            row[column] = diagonal + 1 if token == other else max(above, row[column - 1])
            diagonal = above
    return row[-1]
