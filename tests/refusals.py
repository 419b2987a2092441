"""A disk that fails while files are read: they open, and reading gives an input/output error."""

import errno
import io
import os
from pathlib import Path
from typing import Any

import pytest


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
