"""Going through many items: in batches, and behind a progress bar.

A bar is drawn on stderr where that is a terminal, and absent in logs and pipes.
"""

from collections.abc import Iterable, Iterator, Sized
from itertools import islice
from typing import NoReturn, TypeVar

from tqdm import tqdm

T = TypeVar("T")


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield `items` in lists of `size`; the last may be shorter. (Python 3.12 has `itertools.batched`.)"""
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield `items` behind a bar; `total` where `len(items)` is unknown."""
    with bar(description, len(items) if isinstance(items, Sized) else total) as progress:
        for item in items:
            yield item
            progress.update(1)


def bar(description: str, total: int | None, hidden: bool = False) -> "tqdm[NoReturn]":
    """A bar that the caller moves with `update`; not drawn where `hidden` or stderr is no terminal."""
    # `disable=None` is tqdm's word for "off unless stderr is a terminal".
    disable = True if hidden else None
    return tqdm(desc=description, total=total, disable=disable, mininterval=1.0, dynamic_ncols=True)
