"""Going through many items behind a progress bar.

It is drawn on stderr where that is a terminal, and absent in logs and pipes.
"""

from collections.abc import Iterable, Iterator, Sized
from typing import NoReturn, TypeVar

from tqdm import tqdm

T = TypeVar("T")


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
