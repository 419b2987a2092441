"""Cut many items into batches."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield `items` in lists of `size`; the last may be shorter. (Python 3.12 has `itertools.batched`.)"""
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch
