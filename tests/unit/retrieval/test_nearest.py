"""The nearest vectors: by direction from the mean, the first of equals, in blocks.

Run: .venv/bin/python -m pytest tests/unit/retrieval/test_nearest.py
"""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.retrieval import nearest
from pipeline.retrieval.nearest import center_and_scale, nearest_rows, standardize, unit_rows

# East, north, west and south of [1, 1].
VECTORS = np.array([[2, 1], [1, 2], [0, 1], [1, 0]], dtype=np.float16)


def rows(queries: Any, count: int = 1, vectors: NDArray[Any] = VECTORS) -> Any:
    scaling = center_and_scale(vectors)
    unit = unit_rows(standardize(vectors, *scaling)).astype(np.float16)
    return nearest_rows(unit, unit_rows(standardize(np.array(queries), *scaling)), count).tolist()


def test_the_direction_from_the_mean_counts_and_the_length_does_not() -> None:
    assert rows([[1.1, 1.01], [1, 300], [-5, 1.5]]) == [[0], [1], [2]]


def test_more_rows_come_with_the_nearest_first_and_rows_that_are_lacking_are_minus_one() -> None:
    assert rows([[3, 2]], count=6) == [[0, 1, 3, 2, -1, -1]]


def test_a_channel_that_varies_little_counts_as_much_and_one_that_does_not_vary_is_none() -> None:
    stretched = VECTORS * np.array([0.001, 100]) + 7
    stretched = np.column_stack([stretched, np.full(4, 0.1)])
    assert rows([[7.0011, 107.9, 0.1]], vectors=stretched) == [[0]]


def test_float16_does_not_overflow() -> None:
    large = VECTORS * np.float16(30000)
    assert rows(large, vectors=large) == [[0], [1], [2], [3]]


def test_of_equals_the_first_and_zeros_are_near_nothing() -> None:
    assert rows([[2, 2], [1, 1]]) == [[0], [0]]


def test_vectors_with_the_key_of_the_query_are_left_out() -> None:
    unit = unit_rows(standardize(VECTORS, *center_and_scale(VECTORS)))
    keys = np.array([7, 8, 7, 9], np.uint64), np.array([7, 1], np.uint64)
    found = nearest_rows(unit.astype(np.float16), unit[:2], 4, keys)
    assert found.tolist()[0][:2] == [1, 3]
    assert found.tolist()[0][2:] == [-1, -1]
    assert found.tolist()[1][0] == 1


@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 20), st.integers(0, 1000))
def test_blocks_do_not_change_the_result(count: int, size: int, queries: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    unit = [unit_rows(rng.standard_normal((n, 8), np.float32)) for n in (50, 20)]
    vectors = unit[0].astype(np.float16)
    keys = np.arange(50, dtype=np.uint64), np.arange(20, dtype=np.uint64)
    whole = nearest_rows(vectors, unit[1], 49, keys)[:, : min(count, 49)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "BLOCK", size)
        patch.setattr(nearest, "QUERIES", queries)
        found = nearest_rows(vectors, unit[1], min(count, 49), keys)
    assert found.tolist() == whole.tolist()
