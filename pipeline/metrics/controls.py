"""Captions that no look at the image was needed for: a model's scores are read against theirs."""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PipelineError
from pipeline.metrics.cider import CiderD, Ngram, Vector, length_penalty
from pipeline.metrics.tokenizer import split_at_blanks, tokenize

# The best constant caption is sought on so many images, among so many candidates.
MOST_IMAGES = 1000
MOST_CANDIDATES = 20

# Rows of queries and of train vectors that are compared at a time: 16 MiB of similarities.
_QUERIES = 512
_TRAIN = 8192


def constant_caption(train: Mapping[str, Sequence[str]]) -> str:
    """The train caption that scores best (CIDEr-D) when said of every train image.

    `train` holds the captions by image id. All captions are ranked by a linear estimate, the best
    twenty are scored truly, on at most 1000 images spread over the ids. Of equals, the first by
    text.
    """
    ids = sorted(train)
    if not ids:
        raise PipelineError("there are no train images to choose a constant caption from.")
    for image in ids:
        if not train[image]:
            raise PipelineError(f"train image {image!r} has no captions.")
    ids = ids[:: math.ceil(len(ids) / MOST_IMAGES)]
    texts = sorted({caption for of_image in train.values() for caption in of_image})
    tokens = {text: split_at_blanks(tokenize(text)) for text in texts}

    scorer = CiderD([[tokens[caption] for caption in train[i]] for i in ids])
    vectors = {text: scorer.vector(tokens[text]) for text in texts}
    estimate = _Estimate(scorer)
    candidates = sorted(texts, key=lambda text: (-estimate.of(vectors[text]), text))
    scores = {
        text: math.fsum(scorer.score(vectors[text], image) for image in range(len(ids)))
        for text in candidates[:MOST_CANDIDATES]
    }
    return min(scores, key=lambda text: (-scores[text], text))


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


def nearest_caption(
    train_vectors: NDArray[Any],
    train_captions: Sequence[Sequence[str]],
    query_vectors: NDArray[Any],
) -> list[str]:
    """For each query the first caption of the train image with the highest cosine similarity.

    `train_vectors` [N_train, D], one row an image with `train_captions[row]`; `query_vectors` [N,
    D]. Of equally near images the first. Computed in blocks: memory does not grow with N times
    N_train.
    """
    if (
        train_vectors.ndim != 2
        or query_vectors.ndim != 2
        or train_vectors.shape[1] != query_vectors.shape[1]
        or len(train_captions) != len(train_vectors)
    ):
        raise ValueError(
            f"train_vectors are {train_vectors.shape} with {len(train_captions)} captions, "
            f"query_vectors are {query_vectors.shape}; expected [N_train, D], N_train, [N, D]"
        )
    if not len(train_vectors):
        raise PipelineError("there are no train images to take the nearest of.")
    nearest: list[int] = []
    for first in range(0, len(query_vectors), _QUERIES):
        queries = _unit_rows(query_vectors[first : first + _QUERIES])  # [n, D]
        best = np.full(len(queries), -np.inf, dtype=np.float32)
        row_of_best = np.zeros(len(queries), dtype=np.int64)
        for start in range(0, len(train_vectors), _TRAIN):
            similarity = queries @ _unit_rows(train_vectors[start : start + _TRAIN]).T  # [n, m]
            row = similarity.argmax(axis=1)
            value = similarity[np.arange(len(queries)), row]
            better = value > best
            best[better] = value[better]
            row_of_best[better] = start + row[better]
        nearest += row_of_best.tolist()
    return [train_captions[row][0] for row in nearest]


def _unit_rows(vectors: NDArray[Any]) -> NDArray[np.float32]:
    """Rows scaled to length 1, in float32 (squares of float16 overflow); zeros stay zeros."""
    rows: NDArray[np.float32] = vectors.astype(np.float32)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    rows /= np.where(norms > 0, norms, 1)
    return rows
