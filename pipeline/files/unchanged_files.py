"""Files that a run reads more than once: what it makes of them must all be of the same bytes."""

from collections.abc import Iterable
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.files.json_files import sha256_of_file


class UnchangedFiles:
    """The digests of files as they were first seen, and whether they still are so."""

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        """`paths`: those that are looked at now; others are at the first question about them."""
        self._sha256 = {path: _digest(path) for path in paths}

    def sha256(self, path: Path) -> str:
        """SHA-256 (hex) of the bytes that a file had when it was first seen."""
        if path not in self._sha256:
            self._sha256[path] = _digest(path)
        return self._sha256[path]

    def require_same(self, path: Path) -> None:
        """PipelineError where a file holds other bytes by now: to be called after it was read again."""
        first, found = self.sha256(path), _digest(path)
        if found != first:
            raise PipelineError(
                f"{path} was exchanged while it was in use (sha256 {first:.12}, now {found:.12}); "
                "run the command again."
            )


def _digest(path: Path) -> str:
    try:
        return sha256_of_file(path)
    except FileNotFoundError as error:
        raise PipelineError(f"{path} does not exist; run `dvc repro`.") from error
    except OSError as error:
        raise PipelineError(f"cannot read {path}: {error.strerror}; run `dvc repro`.") from error
