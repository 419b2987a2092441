"""A system that refuses to read files, as a disk does that does not answer."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest


def refuse(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let every file below that folder raise an input/output error when it is opened."""
    opened = Path.open

    def open_or_refuse(path: Path, *args: Any, **kwargs: Any) -> Any:
        if folder in path.parents:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return opened(path, *args, **kwargs)

    patch.setattr(Path, "open", open_or_refuse)
