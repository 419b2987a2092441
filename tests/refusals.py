"""Refusals and what leads to them: flipped bits, a disk that cannot be read, an event just before a call."""

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import PipelineError


def refusal(call: Callable[..., object], *arguments: Any, match: str | None = None, **named: Any) -> str:
    """Return the sentence of the PipelineError in which a call must end; `match` is searched for in it."""
    with pytest.raises(PipelineError, match=match) as caught:
        call(*arguments, **named)
    return str(caught.value)


def flipped(content: bytes, place: int = -1, bit: int = 0) -> bytes:
    """The content with one bit changed, in its last byte or in the one at `place`."""
    changed = bytearray(content)
    changed[place] ^= 1 << bit
    return bytes(changed)


def call_before(patch: pytest.MonkeyPatch, owner: object, name: str, event: Callable[..., object]) -> None:
    """Let `event`, which gets the same arguments and may raise, come before each call of `owner.name`."""
    original = getattr(owner, name)

    def event_first(*args: Any, **named: Any) -> Any:
        event(*args, **named)
        return original(*args, **named)

    patch.setattr(owner, name, event_first)


class _Failing(io.FileIO):
    def readinto(self, *_: Any) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO), self.name)

    readall = readinto


def fail_reads(patch: pytest.MonkeyPatch, place: Path) -> None:
    """Let reading that file, or every file below that folder, raise an input/output error."""
    opened = Path.open

    def open_failing(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if place not in (path, *path.parents) or "r" not in mode:
            return opened(path, mode, *args, **kwargs)
        file = io.BufferedReader(_Failing(path))
        return file if "b" in mode else io.TextIOWrapper(file, encoding="utf-8")

    patch.setattr(Path, "open", open_failing)
