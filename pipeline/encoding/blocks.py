"""Finished features between encoding and the store, so that no image is encoded twice.

Encoding writes blocks of finished images into a scratch folder that belongs to one encoder, each block
atomically. The store is then written from the blocks in image id order, in one go. So a killed run loses at
most its unfinished blocks, a changed dataset encodes only its new images, and equal inputs give equal bytes,
however often the run was interrupted and whichever machine wrote the blocks.

P: tokens of an image, D_v: width of the encoder.
"""

import errno
import logging
import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path

from pipeline.encoding.block_files import DAMAGED, Block
from pipeline.errors import PipelineError
from pipeline.features.store import Features
from pipeline.files.disk_errors import cannot_write, explain_write_errors

logger = logging.getLogger(__name__)

_OPEN_BLOCKS = 16  # whose list of images stays in memory
_CACHE_KIB = 16_384


class FeatureBlocks(AbstractContextManager["FeatureBlocks", None]):
    """Finished features in a scratch folder, found by the image's SHA-256. Use it as a context manager.

    Their index is an SQLite database in the temporary folder: its memory does not grow with the number of
    images, and a killed process leaves nothing behind. Methods raise PipelineError if that folder is full.
    """

    def __init__(self, folder: Path) -> None:
        """Index the blocks in `folder`; damaged ones are removed."""
        self.folder = folder
        with explain_write_errors(Path(tempfile.gettempdir()) / "vlm-blocks"):
            handle, name = tempfile.mkstemp(prefix="vlm-blocks-")
        os.close(handle)
        self._path = Path(name)
        # SQLite's own temporary files do not say where they are.
        self._database = sqlite3.connect(name, isolation_level=None)
        # An open file needs no name, and no journal: no other process opens it.
        self._path.unlink()
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE"):
            self._run(f"PRAGMA {pragma}")
        self._run(f"PRAGMA cache_size = -{_CACHE_KIB}")
        # Without a block, an image is missing; missing with a row, it is claimed.
        self._run("CREATE TABLE places (sha256 TEXT PRIMARY KEY, block TEXT, row INTEGER) WITHOUT ROWID")
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob("*.safetensors"):
            try:
                self.record(path)
            except DAMAGED as error:
                logger.warning("%s is damaged (%s); its images are encoded again", path, error)
                path.unlink()

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def note_missing(self, sha256s: Iterable[str]) -> int:
        """Note the images that are in no block; return their number, each counted once."""
        self._insert("INSERT OR IGNORE INTO places VALUES (?, NULL, NULL)", ((sha256,) for sha256 in sha256s))
        count: int = self._run("SELECT COUNT(*) FROM places WHERE block IS NULL").fetchone()[0]
        return count

    def claim(self, sha256: str) -> bool:
        """Whether the image is to be encoded now: it is missing and was not claimed before."""
        claim = "UPDATE places SET row = 0 WHERE sha256 = ? AND block IS NULL AND row IS NULL"
        return self._run(claim, (sha256,)).rowcount == 1

    def record(self, path: Path) -> int:
        """Add the images of a block to the index; return their number.

        Raises one of `DAMAGED`, or PipelineError if the system refuses to read the block.
        """
        images = Block(path).images
        rows = ((sha256, path.name, row) for row, sha256 in enumerate(images))
        self._insert("INSERT OR REPLACE INTO places VALUES (?, ?, ?)", rows)
        return len(images)

    def read(self, sha256s: Iterable[str]) -> Iterator[Features]:
        """Yield the features `[P, D_v]` of each image, in order; each row is read from the disk once.

        A block that was damaged since it was written is removed. Raises PipelineError for it, and if the
        system refuses to read a block.
        """
        open_block = lru_cache(_OPEN_BLOCKS)(Block)
        find = "SELECT block, row FROM places WHERE sha256 = ? AND block IS NOT NULL"
        for sha256 in sha256s:
            place = self._run(find, (sha256,)).fetchone()
            if place is None:
                raise PipelineError(
                    f"{self.folder} lacks the features of an image (sha256 {sha256:.12}). "
                    "Fix: run `dvc repro encode` again."
                )
            path = self.folder / place[0]
            try:
                values = open_block(path).read(place[1], sha256)
            except DAMAGED as error:
                path.unlink(missing_ok=True)
                raise PipelineError(
                    f"{path} was damaged ({error}) and has been removed. "
                    "Fix: run the command again, which encodes the images of that block again."
                ) from error
            yield values

    def _insert(self, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
        self._run("BEGIN")
        for row in rows:
            self._run(statement, row)
        self._run("COMMIT")

    def _run(self, statement: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:
        try:
            return self._database.execute(statement, values)
        except sqlite3.OperationalError as error:
            # The statements are right, so the file is at fault: no room, or a limit on the size of files.
            raise cannot_write(self._path, OSError(errno.ENOSPC, str(error))) from error
