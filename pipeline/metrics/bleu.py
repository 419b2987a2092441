"""Corpus BLEU-1 to BLEU-4 (Papineni et al. 2002): NLTK's counts, put together as pycocoevalcap does.

The counts of each image are separate from the score of their sum, so that a bootstrap can sum them again.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

ORDERS = 4

# pycocoevalcap adds these, so that nothing divides by zero; NLTK's corpus_bleu gives 0 for the whole corpus
# where an order has no match.
_TINY = 1e-15
_SMALL = 1e-9


def bleu_counts(
    predictions: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> NDArray[np.int64]:
    """Count what BLEU needs of each tokenized caption; `references[i]` are those of image i.

    Returns `[images, 10]`: for n = 1 to 4 the n-grams matched, for n = 1 to 4 the n-grams in the caption, the
    length, and the closest reference length.
    """
    rows = [_counts(*pair) for pair in zip(predictions, references, strict=True)]
    return np.array(rows, dtype=np.int64).reshape(len(rows), 2 * ORDERS + 2)


def bleu_from_counts(counts: NDArray[Any]) -> NDArray[np.float64]:
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
    # Importing NLTK takes a second, which code that only reads scores need not wait for.
    from nltk.translate.bleu_score import closest_ref_length, modified_precision

    orders = range(1, ORDERS + 1)
    matched = [modified_precision(references, prediction, order).numerator for order in orders]
    # NLTK counts one guess, to divide by, in captions that are too short for an n-gram.
    guessed = [max(0, len(prediction) - order + 1) for order in orders]
    return [*matched, *guessed, len(prediction), closest_ref_length(references, len(prediction))]
