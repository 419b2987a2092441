"""CIDEr-D (Vedantam, Zitnick and Parikh, CVPR 2015): do captions say what people say of this image?

n-grams are weighted by tf-idf, so that words which fit every image ("a man in a") count for little.
CIDEr-D therefore shows whether the image was used where BLEU does not. As in pycocoevalcap: no
stemming, n = 1 to 4, idf from the references of the scored set, clipping, a Gaussian penalty (sigma
6) on the difference in length, values times 10. A score depends on which images are scored together.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ORDERS = 4
SIGMA = 6.0

Ngram = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Vector:
    """A caption as tf-idf weights of its n-grams; per order (1 to 4) the norm of its weights."""

    weights: dict[Ngram, float]
    norms: tuple[float, ...]
    length: int


class TfIdf:
    """Weights of n-grams: the fewer images' captions an n-gram is in, the more it counts."""

    def __init__(self, images: Iterable[Sequence[Sequence[str]]]) -> None:
        """`images` yields the tokenized captions of one image at a time; only numbers of images are kept."""
        images_with: Counter[Ngram] = Counter()
        count = 0
        for captions in images:
            images_with.update({ngram for caption in captions for ngram in _ngrams(caption)})
            count += 1
        self._idf_of_unseen = math.log(max(1, count))
        self._idf = {ngram: self._idf_of_unseen - math.log(n) for ngram, n in images_with.items()}

    def vector(self, caption: Sequence[str]) -> Vector:
        """Return the tf-idf vector of a tokenized caption."""
        counts = Counter(_ngrams(caption))
        weights = {n: count * self._idf.get(n, self._idf_of_unseen) for n, count in counts.items()}
        squares = [0.0] * ORDERS
        for ngram, weight in weights.items():
            squares[len(ngram) - 1] += weight * weight
        # The length that pycocoevalcap compares is the number of bigrams.
        length = sum(count for ngram, count in counts.items() if len(ngram) == 2)
        return Vector(weights, tuple(map(math.sqrt, squares)), length)


class CiderD(TfIdf):
    """CIDEr-D against one set of references: their idf and their vectors, computed once."""

    def __init__(self, references: Sequence[Sequence[Sequence[str]]]) -> None:
        """`references[i]` are the tokenized references of image i."""
        super().__init__(references)
        self.references = [[self.vector(caption) for caption in captions] for captions in references]

    def score(self, caption: Vector, references: Sequence[Vector]) -> float:
        """Return CIDEr-D of a caption by one image's references."""
        return 10 * sum(similarity(caption, r) for r in references) / (ORDERS * len(references))


def cider_d(
    predictions: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> list[float]:
    """Return CIDEr-D of each tokenized caption on pycocoevalcap's scale; papers print the mean times 100.

    With a single image every idf, and so every score, is 0.
    """
    scorer = CiderD(references)
    pairs = zip(predictions, scorer.references, strict=True)
    return [scorer.score(scorer.vector(caption), expected) for caption, expected in pairs]


def similarity(caption: Vector, reference: Vector) -> float:
    """Return the clipped cosine similarity with the length penalty, summed over the orders: 0 to 4."""
    products = [0.0] * ORDERS
    others = reference.weights
    for ngram, weight in caption.weights.items():
        if ngram in others:
            products[len(ngram) - 1] += min(weight, others[ngram]) * others[ngram]
    cosines = 0.0
    for product, norm, reference_norm in zip(products, caption.norms, reference.norms, strict=True):
        if product:
            cosines += product / (norm * reference_norm)
    return cosines * length_penalty(caption.length - reference.length)


def similarities(captions: Sequence[Vector]) -> NDArray[np.float64]:
    """Return `similarity` of each caption (row) to each other one as its reference, `[n, n]`; 0 to itself."""
    holders: defaultdict[Ngram, list[int]] = defaultdict(list)
    for place, caption in enumerate(captions):
        for ngram in caption.weights:
            holders[ngram].append(place)
    products = np.zeros((ORDERS, len(captions), len(captions)))
    for ngram, places in holders.items():
        if len(places) > 1:
            weights = np.array([captions[place].weights[ngram] for place in places])
            at = np.array(places)
            products[len(ngram) - 1, at[:, None], at] += np.minimum(weights[:, None], weights) * weights
    norms = np.array([caption.norms for caption in captions]).T  # [ORDERS, n]
    norms[norms == 0] = 1  # the products are 0, too
    cosines = (products / (norms[:, :, None] * norms[:, None])).sum(axis=0)
    lengths = np.array([caption.length for caption in captions])
    pairs: NDArray[np.float64] = cosines * np.exp(-((lengths[:, None] - lengths) ** 2) / (2 * SIGMA**2))
    np.fill_diagonal(pairs, 0)
    return pairs


def length_penalty(difference: int) -> float:
    """Return 1 for equal lengths, less the more they differ."""
    return math.exp(-(difference**2) / (2 * SIGMA**2))


def _ngrams(tokens: Sequence[str]) -> Iterator[Ngram]:
    for order in range(1, ORDERS + 1):
        yield from zip(*(tokens[start:] for start in range(order)), strict=False)
