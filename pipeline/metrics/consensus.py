"""How far captions agree with what people said of similar images.

It makes the control `consensus`: of all captions of similar images, the one that agrees best with the others.
It also weighs the captions of a search (`generate.consensus`).

Devlin et al., "Exploring Nearest Neighbor Approaches for Image Captioning" (2015), arXiv 1505.04467. Nothing
is trained. How far two captions agree is their CIDEr-D, with the idf of train. The paper compares a caption
only with those most similar to it. Here it is compared with all others, which is simpler and measured better
on dev: on the photos of docs/results.md CIDEr-D was 41.2, 38.3 and 40.9 for 10, 20 and 50 images (41.2, 38.6
and 38.1 with the 40 most similar captions), on UCM-Captions 334.7, 334.6 and 329.6 (332.4, 319.1 and 284.6).
"""

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.captions import SimilarCaptions
from pipeline.hardware.progress import track
from pipeline.metrics.cider import ORDERS, TfIdf, cider_d, similarities
from pipeline.metrics.tokenizer import caption_words

# Numbers of nearest train images whose captions are compared: dev chooses among these.
NEIGHBORS = (1, 5, 10, 20, 50)
# Bounds on memory: the images that give the idf, and the captions that are compared with one another.
MOST_IMAGES = 10_000
MOST_CANDIDATES = 500


def idf_rows(images: int) -> range:
    """Return which of so many train images give the idf: all, or 5,000 to 10,000 spread evenly."""
    return range(0, images, max(1, math.ceil(images / MOST_IMAGES)))


class Consensus:
    """Finds what the captions of some train images agree on."""

    def __init__(self, train: Sequence[Sequence[str]]) -> None:
        """`train[i]` are the captions of train image i; 10,000 at most, spread evenly, give the idf."""
        self._train = train
        self._tf_idf = TfIdf(
            [caption_words(caption) for caption in train[row]] for row in idf_rows(len(train))
        )

    def caption(self, rows: Sequence[int] | NDArray[Any]) -> str:
        """Return the caption with the highest mean similarity to all others of these train images.

        `rows` are places in `train`, the nearest first. Of captions that agree equally the first one wins:
        of the nearest image, in the order of its captions. At most 500 captions are compared. Rows that
        are -1 stand for no image; of no images it is the empty caption.
        """
        captions = [caption for row in rows if row >= 0 for caption in self._train[row]][:MOST_CANDIDATES]
        if not captions:
            return ""
        pairs = similarities([self._tf_idf.vector(caption_words(caption)) for caption in captions])
        # Rounded: sums of the same numbers in another order are equal.
        return captions[int(pairs.sum(axis=1).round(9).argmax())]

    def agreement(self, captions: Sequence[str], similar: SimilarCaptions) -> NDArray[np.float64]:
        """Return how far each caption agrees with those of similar images: their mean CIDEr-D `[n]`, 0 to 10.

        A caption that is one of theirs is not compared with itself.
        """
        texts = [*captions, *chain.from_iterable(similar)]
        words = [tuple(caption_words(text)) for text in texts]
        own, said = words[: len(captions)], words[len(captions) :]
        pairs = similarities([self._tf_idf.vector(caption) for caption in words])
        pairs = pairs[: len(own), len(own) :]  # [n, captions of similar images]
        copies = [caption in said for caption in own]
        for row in np.flatnonzero(copies):
            pairs[row, said.index(own[row])] = 0
        others = np.maximum(len(said) - np.array(copies), 1)
        # Rounded: sums of the same numbers in another order are equal.
        agreement: NDArray[np.float64] = (10 / ORDERS * pairs.sum(axis=1) / others).round(9)
        return agreement

    def choose_neighbors(self, rows: NDArray[Any], references: Sequence[Sequence[str]]) -> int:
        """Return the least number of nearest images whose consensus has the best CIDEr-D.

        Args:
            rows: `[N, count]`, the rows nearest to each dev image, the nearest first; `count` is the most
                that can be chosen.
            references: the captions of each dev image, which are only scored against.
        """
        expected = [[caption_words(caption) for caption in captions] for captions in references]

        def score(count: int) -> float:
            tracked = track(rows, f"consensus of {count} images", "captions")
            return math.fsum(cider_d([caption_words(self.caption(row[:count])) for row in tracked], expected))

        most = int(rows.shape[1])
        scores = {count: score(count) for count in sorted({min(n, most) for n in NEIGHBORS})}
        return max(scores, key=lambda count: scores[count])
