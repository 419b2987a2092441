"""Corpus BLEU-1 to BLEU-4 (Papineni et al. 2002), as pycocoevalcap computes it.

NLTK's corpus_bleu agrees on ordinary captions but not at the edges: it counts one guess in captions
too short for an n-gram, and returns 0 for the whole corpus where an order has no match.
"""

import math
from collections import Counter
from collections.abc import Sequence

ORDERS = 4

# pycocoevalcap adds these instead of smoothing, so that nothing divides by zero.
_TINY = 1e-15
_SMALL = 1e-9


def corpus_bleu(
    predictions: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> tuple[float, float, float, float]:
    """BLEU-1 to -4 (times 100) of tokenised captions; `references[i]` are those of image i."""
    matched = [0] * ORDERS
    guessed = [0] * ORDERS
    length = reference_length = 0
    for prediction, of_image in zip(predictions, references, strict=True):
        length += len(prediction)
        reference_length += _closest_length(len(prediction), of_image)
        for index in range(ORDERS):
            counts = _ngrams(prediction, index + 1)
            most: Counter[tuple[str, ...]] = Counter()
            for reference in of_image:
                most |= _ngrams(reference, index + 1)
            matched[index] += (counts & most).total()
            guessed[index] += counts.total()

    ratio = (length + _TINY) / (reference_length + _SMALL)
    brevity = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    product = 1.0
    scores = []
    for index in range(ORDERS):
        product *= (matched[index] + _TINY) / (guessed[index] + _SMALL)
        scores.append(100 * brevity * product ** (1 / (index + 1)))
    return scores[0], scores[1], scores[2], scores[3]


def _closest_length(length: int, references: Sequence[Sequence[str]]) -> int:
    """The length of the reference closest in length; of two equally close the shorter."""
    return min((abs(len(r) - length), len(r)) for r in references)[1]


def _ngrams(tokens: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(tokens[start:] for start in range(order)), strict=False))
