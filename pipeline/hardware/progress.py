"""Progress bars on stderr where that is a terminal, else log lines; none of libraries."""

import logging
import sys
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

from tqdm import tqdm

logger = logging.getLogger(__name__)

T = TypeVar("T")


# Where no terminal shows a bar, a log line this often; a stage that takes less time writes none.
_SECONDS_BETWEEN_LINES = 60
_BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"
_LINE = "{desc}: {n_fmt} of {total_fmt}, {rate_noinv_fmt}{postfix}, {remaining} left"


class _LogLines:
    """A file that logs what is written to it, each bar as a line."""

    def write(self, text: str) -> None:
        if line := text.strip():
            logger.info(line)

    def flush(self) -> None:
        pass


def track(items: Iterable[T], description: str, unit: str, total: int | None = None) -> Iterator[T]:
    """Yield `items` and move a bar; `total` where `len(items)` is unknown."""
    with bar(description, unit, len(items) if isinstance(items, Sized) else total) as progress:
        for item in items:
            yield item
            progress.update(1)


def bar(
    description: str, unit: str, total: int | None, initial: int = 0, hidden: bool = False
) -> "tqdm[NoReturn]":
    """Make a bar that the caller moves with `update`: progress, units a second and the time that is left.

    It is drawn on stderr if that is a terminal, else logged once a minute; it is neither where `hidden`.
    `initial` units were finished before.
    """
    options: dict[str, Any] = {"desc": description, "unit": f" {unit}", "total": total, "initial": initial}
    if sys.stderr.isatty():
        return tqdm(**options, disable=hidden, bar_format=_BAR, mininterval=1.0, dynamic_ncols=True)
    options |= {"mininterval": _SECONDS_BETWEEN_LINES, "delay": _SECONDS_BETWEEN_LINES, "miniters": 1}
    return tqdm(**options, disable=hidden, bar_format=_LINE, file=_LogLines())


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
