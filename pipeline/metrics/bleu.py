"""Corpus BLEU-1 to BLEU-4 (Papineni et al. 2002), as pycocoevalcap computes it.

NLTK's corpus_bleu agrees on ordinary captions but not at the edges: it counts one guess in captions
too short for an n-gram, and returns 0 for the whole corpus where an order has no match.

The counts of each image are kept apart from the score of their sum: a bootstrap sums them anew.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

ORDERS = 4

# pycocoevalcap adds these instead of smoothing, so that nothing divides by zero.
_TINY = 1e-15
_SMALL = 1e-9


def bleu_counts(
    predictions: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> NDArray[np.int64]:
    """What BLEU needs to know of each tokenised caption; `references[i]` are those of image i.

    Returns `[images, 10]`: for n = 1 to 4 the n-grams matched, for n = 1 to 4 the n-grams there are, the
    length, and the closest reference length.
    """
    rows = [_counts(p, of_image) for p, of_image in zip(predictions, references, strict=True)]
    return np.array(rows, dtype=np.int64).reshape(len(rows), 2 * ORDERS + 2)


def bleu_of_counts(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Summed counts `[.., 10]` -> BLEU-1 to -4 `[.., 4]`, times 100."""
    matched, guessed = counts[..., :ORDERS], counts[..., ORDERS : 2 * ORDERS]
    ratio = (counts[..., -2] + _TINY) / (counts[..., -1] + _SMALL)
    with np.errstate(over="ignore"):  # an empty corpus: exp(-inf), a penalty of 0
        brevity = np.exp(np.minimum(0, 1 - 1 / ratio))
    precisions = (matched + _TINY) / (guessed + _SMALL)
    means = np.cumprod(precisions, axis=-1) ** (1 / np.arange(1, ORDERS + 1))
    scores: NDArray[np.float64] = 100 * brevity[..., np.newaxis] * means
    return scores


def _counts(prediction: Sequence[str], references: Sequence[Sequence[str]]) -> list[int]:
    matched, guessed = [], []
    for order in range(1, ORDERS + 1):
        counts = _ngrams(prediction, order)
        most: Counter[tuple[str, ...]] = Counter()
        for reference in references:
            most |= _ngrams(reference, order)
        matched.append((counts & most).total())
        guessed.append(counts.total())
    return [*matched, *guessed, len(prediction), _closest_length(len(prediction), references)]


def _closest_length(length: int, references: Sequence[Sequence[str]]) -> int:
    """The length of the reference closest in length; of two equally close the shorter."""
    return min((abs(len(r) - length), len(r)) for r in references)[1]


def _ngrams(tokens: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(tokens[start:] for start in range(order)), strict=False))
