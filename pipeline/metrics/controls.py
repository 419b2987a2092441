"""Controls: captions made without a look at the image, which a model's scores are compared with."""

import heapq
import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.cider import CiderD, Ngram, Vector, length_penalty
from pipeline.metrics.tokenizer import caption_words

# Bounds on the search for the best constant caption: images that score it, candidates that are scored.
MOST_IMAGES = 1000
MOST_CANDIDATES = 20

# Queries that are compared with a block of train vectors at a time: bounds the similarities.
_QUERIES = 512


def constant_caption(train: Mapping[str, Sequence[str]]) -> str:
    """Return the train caption that scores best (CIDEr-D) as the prediction for every train image.

    `train` has the captions by image id, one image and one caption each at least. All captions are ranked by
    a linear estimate, the best twenty are scored exactly, on at most 1000 images spread over the ids. Of
    equal captions it is the first by text.
    """
    ids = sorted(train)[:: math.ceil(len(train) / MOST_IMAGES)]
    scorer = CiderD([[caption_words(caption) for caption in train[i]] for i in ids])
    estimate = _estimate(scorer)

    def rank(text: str) -> tuple[float, str]:
        return -estimate(scorer.vector(caption_words(text))), text

    def score(text: str) -> float:
        vector = scorer.vector(caption_words(text))
        return math.fsum(scorer.score(vector, references) for references in scorer.references)

    # One caption at a time: the vectors of all would take kilobytes each.
    texts = {caption for captions in train.values() for caption in captions}
    scores = {text: score(text) for text in heapq.nsmallest(MOST_CANDIDATES, texts, key=rank)}
    return min(scores, key=lambda text: (-scores[text], text))


def _estimate(scorer: CiderD) -> Callable[[Vector], float]:
    """Return a function for a caption's mean CIDEr-D over all images, but for clipping and a constant factor.

    Without clipping the cosine is linear in the reference, so that one mean vector stands for all of
    them. The length penalty is averaged separately.
    """
    mean: defaultdict[Ngram, float] = defaultdict(float)
    lengths: Counter[int] = Counter()
    for references in scorer.references:
        for reference in references:
            lengths[reference.length] += 1
            for ngram, weight in reference.weights.items():
                if weight:
                    mean[ngram] += weight / reference.norms[len(ngram) - 1] / len(references)

    def estimate(caption: Vector) -> float:
        cosines = math.fsum(
            weight / caption.norms[len(ngram) - 1] * mean.get(ngram, 0.0)
            for ngram, weight in caption.weights.items()
            if weight
        )
        penalties = (n * length_penalty(caption.length - length) for length, n in lengths.items())
        return cosines * math.fsum(penalties)

    return estimate


def shuffle_predictions(predictions: Mapping[str, str], seed: int) -> dict[str, str]:
    """Give each of two or more images the prediction of another image.

    A caption depends on its image's features alone, so this is exactly what the model says when its images
    are shuffled, without a second run of the model. The shuffle is one cycle through all images: no image
    keeps its caption. It depends on the ids and the seed alone.
    """
    cycle = sorted(predictions)
    random.Random(seed).shuffle(cycle)
    giver = dict(zip(cycle, cycle[1:] + cycle[:1], strict=True))
    return {image: predictions[giver[image]] for image in predictions}


def nearest_rows(
    train: Callable[[], Iterable[NDArray[Any]]], queries: NDArray[Any], count: int
) -> NDArray[np.int64]:
    """Return the rows `[N, count]` of the train vectors nearest to each query, the nearest first.

    Near is a high cosine similarity; of equally near rows the first counts as nearer. Each channel is
    standardized over the train vectors first: what all images share would hide what tells them apart.

    Args:
        train: gives the train vectors, `[n, D]` at a time. It is called twice, so that memory holds one
            block, however many vectors there are.
        queries: `[N, D]`.
        count: how many rows; there must be as many train vectors.
    """
    center, scale = _center_and_scale(train())
    queries = _unit_rows(queries, center, scale)
    nearest = np.full((len(queries), count), -np.inf, dtype=np.float32)
    rows = np.zeros((len(queries), count), dtype=np.int64)
    start = 0
    for block in train():
        vectors = _unit_rows(block, center, scale)
        numbers = np.arange(start, start + len(vectors))
        for first in range(0, len(queries), _QUERIES):
            part = slice(first, first + _QUERIES)
            similarities = np.hstack([nearest[part], queries[part] @ vectors.T])  # [n, count + block]
            candidates = np.hstack([rows[part], np.tile(numbers, (len(similarities), 1))])
            order = np.argsort(-similarities, axis=1, kind="stable")[:, :count]
            nearest[part] = np.take_along_axis(similarities, order, axis=1)
            rows[part] = np.take_along_axis(candidates, order, axis=1)
        start += len(vectors)
    return rows


def _center_and_scale(blocks: Iterable[NDArray[Any]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and standard deviation `[D]` of vectors, 1 where they do not vary."""
    total = 0
    for block in blocks:
        if not total:
            # Sums of differences from any vector keep the digits; of equal values they are exactly 0.
            origin = block[0].astype(np.float64)
            sums, squares = np.zeros_like(origin), np.zeros_like(origin)
        differences = block - origin
        sums += differences.sum(axis=0)
        squares += np.square(differences).sum(axis=0)
        total += len(block)
    mean = sums / total
    scale = np.sqrt(np.maximum(squares / total - mean**2, 0))
    scale[scale == 0] = 1
    return (origin + mean).astype(np.float32), scale.astype(np.float32)


def _unit_rows(
    vectors: NDArray[Any], center: NDArray[np.float32], scale: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return standardized rows of length 1, in float32 (squares of float16 overflow); zeros stay zeros."""
    rows: NDArray[np.float32] = vectors.astype(np.float32)
    rows -= center
    rows /= scale
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    rows /= np.where(norms > 0, norms, 1)
    return rows
