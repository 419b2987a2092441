"""Which block of finished features holds which image: on disk, since it grows with the number of images."""

import errno
import os
import resource
import sqlite3
import tempfile
from collections.abc import Iterable
from pathlib import Path

from pipeline.files.disk_errors import cannot_write, explain_write_errors

_CACHE_KIB = 16_384


class BlockIndex:
    """Places of features by the image's SHA-256; it lasts as long as the process.

    An SQLite database in the temporary folder: memory stays at its page cache, and nothing is left behind by
    a kill. Every method raises PipelineError where that folder is full.
    """

    def __init__(self) -> None:
        with explain_write_errors(Path(tempfile.gettempdir()) / "vlm-blocks"):
            handle, name = tempfile.mkstemp(prefix="vlm-blocks-")
        os.close(handle)
        self._path = Path(name)
        # SQLite's own temporary files do not say where they are.
        self._database = sqlite3.connect(name, isolation_level=None)
        # Once open it needs no name, and no journal: nobody opens it again.
        self._path.unlink()
        self._run("PRAGMA journal_mode = OFF")
        self._run("PRAGMA synchronous = OFF")
        self._run("PRAGMA locking_mode = EXCLUSIVE")
        self._run(f"PRAGMA cache_size = -{_CACHE_KIB}")
        # A place without a block is still to be encoded; with a row it is claimed.
        self._run("CREATE TABLE places (sha256 TEXT PRIMARY KEY, block TEXT, row INTEGER) WITHOUT ROWID")

    def note_missing(self, sha256s: Iterable[str]) -> int:
        """Note the images that are in no block; returns how many those are, each counted once."""
        self._run("BEGIN")
        for sha256 in sha256s:
            self._run("INSERT OR IGNORE INTO places VALUES (?, NULL, NULL)", (sha256,))
        self._run("COMMIT")
        count: int = self._run("SELECT COUNT(*) FROM places WHERE block IS NULL").fetchone()[0]
        return count

    def claim(self, sha256: str) -> bool:
        """Whether the image is noted as missing and not claimed yet; from now on it is claimed."""
        claimed = "UPDATE places SET row = 0 WHERE sha256 = ? AND block IS NULL AND row IS NULL"
        return self._run(claimed, (sha256,)).rowcount == 1

    def record(self, block: str, sha256s: Iterable[str]) -> None:
        """Say that `block` holds the features of these images, in this order."""
        rows = [(sha256, block, row) for row, sha256 in enumerate(sha256s)]
        self._run("BEGIN")
        for place in rows:
            self._run("INSERT OR REPLACE INTO places VALUES (?, ?, ?)", place)
        self._run("COMMIT")

    def find(self, sha256: str) -> tuple[str, int] | None:
        """The block and the row of an image's features; None for one that is in no block."""
        found = self._run(
            "SELECT block, row FROM places WHERE sha256 = ? AND block IS NOT NULL", (sha256,)
        ).fetchone()
        return None if found is None else (found[0], found[1])

    def close(self) -> None:
        """Delete the index."""
        self._database.close()

    def _run(self, statement: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:
        try:
            return self._database.execute(statement, values)
        except sqlite3.OperationalError as error:
            number = _reason(error.sqlite_errorcode)
            raise cannot_write(self._path, OSError(number, os.strerror(number))) from error


def _reason(code: int) -> int:
    """The system's number behind a code of SQLite, which does not hand it on."""
    if code == sqlite3.SQLITE_FULL:
        return errno.ENOSPC
    limited = resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY
    if code == sqlite3.SQLITE_IOERR_WRITE and limited:
        return errno.EFBIG
    # Its other errors are of reading and writing too: the statements are right.
    return errno.EIO
