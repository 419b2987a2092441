"""Progress bars on stderr where that is a terminal, absent in logs and pipes; none of libraries."""

import logging
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
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


@contextmanager
def hide_library_messages() -> Iterator[None]:
    """Hide the bars and the advice of the libraries that load models; their errors are shown.

    Bars of downloads are the hub's, and stay.
    """
    from transformers.utils.logging import set_tqdm_hook

    loggers = [logging.getLogger(name) for name in ("transformers", "bitsandbytes", "accelerate", "peft")]
    levels = [logger.level for logger in loggers]
    hook = set_tqdm_hook(lambda make, args, options: make(*args, **{**options, "disable": True}))
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        set_tqdm_hook(hook)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
