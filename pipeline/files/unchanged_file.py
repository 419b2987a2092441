"""A file that a run reads once, and whether it has the same bytes at the end of the run."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pipeline.errors import PipelineError
from pipeline.files.disk_errors import explain_read_errors
from pipeline.files.json_files import sha256_of_file

# Far more than any checkpoint or state: a wrong file must not fill the memory.
_MAX_BYTES = 8 * 2**30


@dataclass(frozen=True)
class UnchangedFile:
    """A file as it was read: its path and the SHA-256 (hex) of the bytes that were read."""

    path: Path
    sha256: str

    @classmethod
    def read(cls, path: Path) -> tuple[Self, bytes]:
        """Read a file; return it with its bytes.

        Raises PipelineError if it is missing or far too large, UnreadableError if the system refuses to read
        it.
        """
        with explain_read_errors(path):
            try:
                with path.open("rb") as file:
                    size = os.fstat(file.fileno()).st_size
                    if size > _MAX_BYTES:
                        raise PipelineError(f"{path} has {size} bytes; at most {_MAX_BYTES} are allowed.")
                    content = file.read()
            except FileNotFoundError as error:
                raise PipelineError(
                    f"{path} does not exist. Fix: run `dvc repro` in the project's folder, or name another."
                ) from error
        return cls(path, hashlib.sha256(content).hexdigest()), content

    def require_unchanged(self) -> None:
        """Raise PipelineError if the file has other bytes now or cannot be read."""
        try:
            sha256 = sha256_of_file(self.path)
        except OSError as error:
            raise PipelineError(
                f"cannot read {self.path} again: {error.strerror}. Fix: run `dvc repro`."
            ) from error
        if sha256 != self.sha256:
            raise PipelineError(f"{self.path} was exchanged while it was in use. Fix: run the command again.")
