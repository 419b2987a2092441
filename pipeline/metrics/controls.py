"""Controls: captions made without a look at the image, which a model's scores are compared with."""

import heapq
import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PipelineError
from pipeline.metrics.cider import CiderD, Ngram, Vector, length_penalty
from pipeline.metrics.tokenizer import split_at_blanks, tokenize

# The best constant caption is sought on so many images, among so many candidates.
MOST_IMAGES = 1000
MOST_CANDIDATES = 20

# Queries that are compared with a block of train vectors at a time: bounds the similarities.
_QUERIES = 512


def constant_caption(train: Mapping[str, Sequence[str]]) -> str:
    """The train caption that scores best (CIDEr-D) when said of every train image.

    `train` holds the captions by image id. All captions are ranked by a linear estimate, the best twenty
    are scored exactly, on at most 1000 images spread over the ids. Of equal ones it is the first by text.
    Raises PipelineError for no images, or one without captions.
    """
    ids = sorted(train)
    if not ids:
        raise PipelineError("there are no train images to choose a constant caption from.")
    for image in ids:
        if not train[image]:
            raise PipelineError(f"train image {image!r} has no captions.")
    ids = ids[:: math.ceil(len(ids) / MOST_IMAGES)]
    scorer = CiderD([[_words(caption) for caption in train[i]] for i in ids])
    estimate = _Estimate(scorer)

    def rank(text: str) -> tuple[float, str]:
        return -estimate.of(scorer.vector(_words(text))), text

    def score(text: str) -> float:
        vector = scorer.vector(_words(text))
        return math.fsum(scorer.score(vector, image) for image in range(len(ids)))

    # One caption at a time: the vectors of all would take kilobytes each.
    texts = {caption for captions in train.values() for caption in captions}
    scores = {text: score(text) for text in heapq.nsmallest(MOST_CANDIDATES, texts, key=rank)}
    return min(scores, key=lambda text: (-scores[text], text))


def _words(caption: str) -> list[str]:
    return split_at_blanks(tokenize(caption))


class _Estimate:
    """The mean CIDEr-D of a caption over all images, but for the clipping and a constant factor.

    Without clipping the cosine is linear in the reference, so one mean vector stands for all of
    them. The length penalty is averaged apart from it.
    """

    def __init__(self, scorer: CiderD) -> None:
        self._mean: defaultdict[Ngram, float] = defaultdict(float)
        self._lengths: Counter[int] = Counter()
        for of_image in scorer.references:
            for reference in of_image:
                self._lengths[reference.length] += 1
                for ngram, weight in reference.weights.items():
                    if weight:
                        self._mean[ngram] += weight / reference.norms[len(ngram) - 1] / len(of_image)

    def of(self, caption: Vector) -> float:
        cosines = math.fsum(
            weight / caption.norms[len(ngram) - 1] * self._mean.get(ngram, 0.0)
            for ngram, weight in caption.weights.items()
            if weight
        )
        penalties = (n * length_penalty(caption.length - at) for at, n in self._lengths.items())
        return cosines * math.fsum(penalties)


def shuffle_predictions(predictions: Mapping[str, str], seed: int) -> dict[str, str]:
    """Give each image the prediction of another one.

    A caption depends on nothing but its image's features, so this is exactly what the model says
    when its images are shuffled; no second run of the model is needed. The shuffle is one cycle
    through all images: none keeps its own, and it depends on the ids and the seed alone.
    """
    if len(predictions) < 2:
        raise PipelineError(
            f"{len(predictions)} predictions cannot be shuffled; at least 2 images are needed."
        )
    cycle = sorted(predictions)
    random.Random(seed).shuffle(cycle)
    giver = dict(zip(cycle, cycle[1:] + cycle[:1], strict=True))
    return {image: predictions[giver[image]] for image in predictions}


def nearest_rows(
    train: Callable[[], Iterable[NDArray[Any]]], queries: NDArray[Any], count: int
) -> NDArray[np.int64]:
    """Return the rows `[N, count]` of the train vectors nearest to each query, the nearest first.

    Near is a high cosine similarity; of equally near rows the first counts as nearer. Each channel is
    standardised over the train vectors first: what all images share would hide what tells them apart.

    Args:
        train: gives the train vectors, `[n, D]` at a time. It is called twice, so that memory holds one
            block, however many vectors there are.
        queries: `[N, D]`.
        count: how many rows; there must be as many train vectors.

    Raises PipelineError when there are no train vectors.
    """
    center, scale = _center_and_scale(train())
    queries = _unit_rows(queries, center, scale)
    values = np.full((len(queries), count), -np.inf, dtype=np.float32)
    rows = np.zeros((len(queries), count), dtype=np.int64)
    start = 0
    for block in train():
        vectors = _unit_rows(block, center, scale)
        for first in range(0, len(queries), _QUERIES):
            part = slice(first, first + _QUERIES)
            found = _largest(queries[part] @ vectors.T, min(count, len(vectors)))  # [n, count]
            all_values = np.hstack([values[part], found[0]])
            all_rows = np.hstack([rows[part], start + found[1]])
            order = np.argsort(-all_values, axis=1, kind="stable")[:, :count]
            values[part] = np.take_along_axis(all_values, order, axis=1)
            rows[part] = np.take_along_axis(all_rows, order, axis=1)
        start += len(vectors)
    return rows


def _largest(values: NDArray[np.float32], count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The largest values of each row and their columns, both `[n, count]`; `values` is overwritten."""
    columns = np.empty((len(values), count), dtype=np.int64)
    largest = np.empty((len(values), count), dtype=np.float32)
    at = np.arange(len(values))
    for place in range(count):
        columns[:, place] = values.argmax(axis=1)
        largest[:, place] = values[at, columns[:, place]]
        values[at, columns[:, place]] = -np.inf
    return largest, columns


def _center_and_scale(blocks: Iterable[NDArray[Any]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation `[D]` of vectors, 1 where they do not vary."""
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
    if not total:
        raise PipelineError("there are no train images to take the nearest of.")
    mean = sums / total
    scale = np.sqrt(np.maximum(squares / total - mean**2, 0))
    scale[scale == 0] = 1
    return (origin + mean).astype(np.float32), scale.astype(np.float32)


def _unit_rows(
    vectors: NDArray[Any], center: NDArray[np.float32], scale: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Standardised rows of length 1, in float32 (squares of float16 overflow); zeros stay zeros."""
    rows: NDArray[np.float32] = vectors.astype(np.float32)
    rows -= center
    rows /= scale
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    rows /= np.where(norms > 0, norms, 1)
    return rows
