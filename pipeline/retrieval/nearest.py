"""Nearest vectors by cosine similarity of standardized channels, in blocks.

Each channel is standardized over the train vectors: what all images share would hide what tells them apart.

N: train vectors, Q: queries, D: channels.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

# Vectors and queries that are compared at a time: bounds the similarities to 17 MB.
BLOCK = 8192
QUERIES = 512

Vectors = NDArray[np.float16]


def blocks(count: int) -> Iterator[slice]:
    """Yield slices of at most 8192 that cover `count` rows in order."""
    return (slice(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK))


def center_and_scale(vectors: Vectors) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and standard deviation `[D]` of at least one vector, 1 where channels do not vary."""
    # Sums of differences from any vector keep the digits; of equal values they are exactly 0.
    origin = vectors[0].astype(np.float64)
    sums, squares = np.zeros_like(origin), np.zeros_like(origin)
    for block in blocks(len(vectors)):
        differences = vectors[block] - origin
        sums += differences.sum(axis=0)
        squares += np.square(differences).sum(axis=0)
    mean = sums / len(vectors)
    scale = np.sqrt(np.maximum(squares / len(vectors) - mean**2, 0))
    scale[scale == 0] = 1
    return (origin + mean).astype(np.float32), scale.astype(np.float32)


def standardize(
    vectors: NDArray[np.floating], center: NDArray[np.float32], scale: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return vectors `[N, D]` with each channel centered and scaled, in float32."""
    return (vectors.astype(np.float32) - center) / scale


def unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return rows of length 1; zeros stay zeros."""
    norms: NDArray[np.float32] = np.sqrt(np.square(rows).sum(axis=1, keepdims=True))
    norms[~(norms > 0)] = 1
    return rows / norms


def nearest_rows(
    vectors: Vectors,
    queries: NDArray[np.float32],
    count: int,
    keys: tuple[NDArray[np.uint64], NDArray[np.uint64]] | None = None,
) -> NDArray[np.int32]:
    """Return the rows `[Q, count]` of the vectors nearest to each query (largest product), the nearest first.

    Of equally near vectors the first counts as nearer. Rows are -1 where there are too few vectors.

    Args:
        vectors: `[N, D]`, all of one length.
        queries: `[Q, D]`.
        count: how many rows.
        keys: of each vector and of each query; vectors with the query's own key are left out.
    """
    rows = np.full((len(queries), count), -1, np.int32)
    for start in range(0, len(queries), QUERIES):
        part = slice(start, start + QUERIES)
        best = np.full((len(queries[part]), count), -np.inf, np.float32)
        for block in blocks(len(vectors)):
            values = queries[part] @ vectors[block].astype(np.float32).T  # [q, n]
            if keys is not None:
                values[keys[1][part, None] == keys[0][None, block]] = -np.inf
            values, columns = _largest(values, min(count, values.shape[1]))
            all_values = np.hstack([best, values])
            columns = np.where(np.isneginf(values), -1, block.start + columns)
            all_rows = np.hstack([rows[part], columns.astype(np.int32)])
            order = np.argsort(-all_values, axis=1, kind="stable")[:, :count]
            best = np.take_along_axis(all_values, order, axis=1)
            rows[part] = np.take_along_axis(all_rows, order, axis=1)
    return rows


def _largest(values: NDArray[np.float32], count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The largest values of each row and their columns, both `[q, count]`; `values` is overwritten."""
    columns = np.empty((len(values), count), dtype=np.int64)
    largest = np.empty((len(values), count), dtype=np.float32)
    at = np.arange(len(values))
    for place in range(count):
        columns[:, place] = values.argmax(axis=1)
        largest[:, place] = values[at, columns[:, place]]
        values[at, columns[:, place]] = -np.inf
    return largest, columns
