"""Refusals: their sentences; and a disk whose files can be opened, but not be read."""

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import PipelineError


def refusal(call: Callable[..., object], *arguments: object) -> str:
    """Return the sentence of the PipelineError in which a call ends."""
    with pytest.raises(PipelineError) as caught:
        call(*arguments)
    return str(caught.value)


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
