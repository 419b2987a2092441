"""Finished features between encoding and the store, so that no image is encoded twice.

Encoding writes blocks of finished images into a scratch folder that belongs to one encoder (its
fingerprint names it), each block atomically. The store is then put together from the blocks in image id
order, in one go. So a killed run loses at most the blocks it was at, a changed dataset encodes only what is
new, and equal inputs give equal bytes however often the run was interrupted and whoever wrote the blocks.

P: tokens of an image, D_v: width of the encoder.
"""

import logging
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.encoding.block_files import DAMAGED, Block
from pipeline.encoding.block_index import BlockIndex
from pipeline.errors import PipelineError
from pipeline.features.store import Features

logger = logging.getLogger(__name__)

# Blocks whose list of images stays in memory.
_BLOCKS_HELD = 16


class FeatureBlocks:
    """Finished features in a scratch folder, found by the image's SHA-256.

    Each block is a file of its own (`block_files`). Use as a context manager.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._index = BlockIndex()
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob("*.safetensors"):
            try:
                self.record(path)
            except DAMAGED as error:
                logger.warning("%s is damaged (%s); its images are encoded again", path, error)
                path.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._index.close()

    def note_missing(self, sha256s: Iterable[str]) -> int:
        """Note the images that are in no block; returns how many those are, each counted once."""
        return self._index.note_missing(sha256s)

    def claim(self, sha256: str) -> bool:
        """Whether the image is to be encoded now: noted as missing, and not claimed before."""
        return self._index.claim(sha256)

    def record(self, path: Path) -> int:
        """Add the images of a block to the index; returns how many those are.

        Raises one of `DAMAGED`, or PipelineError where the system refuses to read it.
        """
        images = Block(path).images
        self._index.record(path.name, images)
        return len(images)

    def read(self, sha256s: Iterable[str]) -> Iterator[Features]:
        """Yield the features `[P, D_v]` of each image, in order; each row is read from the disk once.

        A block that was damaged since it was written is removed. Raises PipelineError for it, and for one
        that the system refuses to read.
        """
        open_block = lru_cache(_BLOCKS_HELD)(Block)
        for sha256 in sha256s:
            found = self._index.find(sha256)
            if found is None:
                raise PipelineError(
                    f"{self.folder} lacks the features of the image with sha256 {sha256:.12}; "
                    "run `dvc repro encode` again."
                )
            name, row = found
            path = self.folder / name
            try:
                values = open_block(path).read(row, sha256)
            except DAMAGED as error:
                path.unlink(missing_ok=True)
                raise PipelineError(
                    f"{path} was damaged ({error}) and has been removed; run the command again: it encodes "
                    "the images of that block again."
                ) from error
            yield values
