"""CIDEr-D (Vedantam, Zitnick and Parikh, CVPR 2015): do captions say what people say of this image?

n-grams are weighted by tf-idf, so that words which fit every image ("a man in a") count for little.
This is why it shows whether the image was used where BLEU does not. As in pycocoevalcap: no
stemming, n = 1 to 4, idf from the references of the scored set, clipping, a Gaussian penalty (sigma
6) on the difference in length, values times 10. A score therefore depends on which images are
scored together.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

ORDERS = 4
SIGMA = 6.0

Ngram = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Vector:
    """A caption as tf-idf weights of its n-grams; per order (1 to 4) the norm of its weights."""

    weights: dict[Ngram, float]
    norms: tuple[float, ...]
    length: int


class CiderD:
    """CIDEr-D against one set of references: their idf and their vectors, computed once."""

    def __init__(self, references: Sequence[Sequence[Sequence[str]]]) -> None:
        """`references[i]` are the tokenised references of image i."""
        counts = [[_ngram_counts(r) for r in of_image] for of_image in references]
        images_with = Counter(ngram for of_image in counts for ngram in set().union(*of_image))
        images = math.log(max(1, len(references)))
        self._idf = {ngram: images - math.log(n) for ngram, n in images_with.items()}
        self._idf_of_unseen = images
        self.references = [[self._weigh(c) for c in of_image] for of_image in counts]

    def vector(self, caption: Sequence[str]) -> Vector:
        """The tf-idf vector of a tokenised caption."""
        return self._weigh(_ngram_counts(caption))

    def score(self, caption: Vector, image: int) -> float:
        """CIDEr-D of a caption for the image at this place in the references."""
        of_image = self.references[image]
        return 10 * sum(similarity(caption, r) for r in of_image) / (ORDERS * len(of_image))

    def _weigh(self, counts: Counter[Ngram]) -> Vector:
        weights = {n: count * self._idf.get(n, self._idf_of_unseen) for n, count in counts.items()}
        squares = [0.0] * ORDERS
        for ngram, weight in weights.items():
            squares[len(ngram) - 1] += weight * weight
        # The length that pycocoevalcap compares is the number of bigrams.
        length = sum(count for ngram, count in counts.items() if len(ngram) == 2)
        return Vector(weights, tuple(map(math.sqrt, squares)), length)


def cider_d(
    predictions: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> list[float]:
    """CIDEr-D of each tokenised caption on pycocoevalcap's scale; papers print the mean times 100.

    With a single image every idf, and so every score, is 0.
    """
    if len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predictions, but references of {len(references)} images")
    scorer = CiderD(references)
    return [scorer.score(scorer.vector(p), image) for image, p in enumerate(predictions)]


def similarity(caption: Vector, reference: Vector) -> float:
    """Clipped cosine similarity with the length penalty, summed over the orders: 0 to 4."""
    products = [0.0] * ORDERS
    others = reference.weights
    for ngram, weight in caption.weights.items():
        other = others.get(ngram)
        if other is not None:
            products[len(ngram) - 1] += min(weight, other) * other
    cosines = 0.0
    for product, norm, reference_norm in zip(products, caption.norms, reference.norms, strict=True):
        if product:
            cosines += product / (norm * reference_norm)
    return cosines * length_penalty(caption.length - reference.length)


def length_penalty(difference: int) -> float:
    """1 for equal lengths, less the more they differ."""
    return math.exp(-(difference**2) / (2 * SIGMA**2))


def _ngram_counts(tokens: Sequence[str]) -> Counter[Ngram]:
    return Counter(_ngrams(tokens))


def _ngrams(tokens: Sequence[str]) -> Iterator[Ngram]:
    for order in range(1, ORDERS + 1):
        yield from zip(*(tokens[start:] for start in range(order)), strict=False)
