"""Progress bars on stderr where that is a terminal; absent in logs and pipes."""

from collections.abc import Iterable, Iterator, Sized
from typing import NoReturn, TypeVar

from tqdm import tqdm

T = TypeVar("T")


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield `items` and move a bar; `total` where `len(items)` is unknown."""
    with bar(description, len(items) if isinstance(items, Sized) else total) as progress:
        for item in items:
            yield item
            progress.update(1)


def bar(description: str, total: int | None, hidden: bool = False) -> "tqdm[NoReturn]":
    """Make a bar that the caller moves with `update`; it is not drawn where `hidden`."""
    disable = True if hidden else None  # None: unless stderr is a terminal
    return tqdm(desc=description, total=total, disable=disable, mininterval=1.0, dynamic_ncols=True)
