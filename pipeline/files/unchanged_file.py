"""A file that a run reads once, at its beginning, and whether it holds the same bytes at the end."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pipeline.errors import PipelineError
from pipeline.files.disk_errors import explain_read_errors
from pipeline.files.json_files import sha256_of_file

# No checkpoint or state comes near it: a wrong file must not fill the memory.
_MOST_BYTES = 8 * 2**30


@dataclass(frozen=True)
class UnchangedFile:
    """A file as it was read.

    Attributes:
        path: where the file lies.
        sha256: the digest (hex) of the bytes that were read.
        status: what the system said of the file then; while it says the same, the file is the same.
    """

    path: Path
    sha256: str
    status: tuple[int, ...]

    @classmethod
    def read(cls, path: Path) -> tuple[Self, bytes]:
        """Open a file once; return what is remembered of it, and its bytes.

        Raises PipelineError for a file that is missing or far too large, UnreadableError for one that the
        system refuses to read.
        """
        with explain_read_errors(path):
            try:
                with path.open("rb") as file:
                    found = os.fstat(file.fileno())
                    if found.st_size > _MOST_BYTES:
                        raise PipelineError(
                            f"{path} has {found.st_size} bytes, more than any checkpoint; name another file."
                        )
                    content = file.read()
            except FileNotFoundError as error:
                raise PipelineError(
                    f"{path} does not exist; run `dvc repro` in the project's folder, or name another."
                ) from error
        return cls(path, hashlib.sha256(content).hexdigest(), _status(found)), content

    def require_unchanged(self) -> None:
        """Raise PipelineError if the file holds other bytes by now, or is gone."""
        try:
            if _status(self.path.stat()) == self.status or sha256_of_file(self.path) == self.sha256:
                return
        except OSError as error:
            raise PipelineError(
                f"cannot read {self.path} again: {error.strerror}; run `dvc repro`."
            ) from error
        raise PipelineError(f"{self.path} was exchanged while it was in use; run the command again.")


def _status(found: os.stat_result) -> tuple[int, ...]:
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
