"""Finished features between encoding and the store, so that no image is encoded twice.

Encoding writes blocks of finished images into a scratch folder that belongs to one encoder (its
fingerprint names it), each block atomically. The store is then put together from the blocks in image id
order, in one go. So a killed run loses at most the blocks it was at, a changed dataset encodes only what is
new, and equal inputs give equal bytes however often the run was interrupted and whoever wrote the blocks.

P: tokens of an image, D_v: width of the encoder.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from pipeline.block_index import BlockIndex
from pipeline.captions import ImageRecord
from pipeline.disk import require_readable
from pipeline.errors import PipelineError
from pipeline.feature_checksums import block_metadata, check_block, images_of_block
from pipeline.feature_store import Features, to_float16
from pipeline.records import write_atomic

logger = logging.getLogger(__name__)

# Images that were added later lie between those of before, in blocks of their own.
_BLOCKS_HELD = 8


class FeatureBlocks:
    """Finished features in a scratch folder, found by the image's SHA-256.

    Each block is a safetensors file with `features` `[n, P, D_v]` and, as metadata, the images' digests and
    a checksum of both. Use as a context manager.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._index = BlockIndex()
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob("*.safetensors"):
            require_readable(path)
            try:
                self._index.record(path.name, block_digests(path))
            except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
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
        """Know the images of a block that was written since; returns how many those are."""
        digests = block_digests(path)
        self._index.record(path.name, digests)
        return len(digests)

    def read(self, sha256s: Iterable[str]) -> Iterator[Features]:
        """Yield the features `[P, D_v]` of each image, in order; images of a block share one read.

        Raises PipelineError for a block that was damaged since it was written, and removes it.
        """
        load = lru_cache(_BLOCKS_HELD)(_load)
        for sha256 in sha256s:
            found = self._index.find(sha256)
            if found is None:
                raise PipelineError(
                    f"{self.folder} lacks the features of the image with sha256 {sha256:.12}; "
                    "run `dvc repro encode` again."
                )
            name, row = found
            yield load(self.folder / name)[row]


def block_path(folder: Path, images: Sequence[ImageRecord]) -> Path:
    """Where the block of these images lies: it is named after the first one's digest."""
    return folder / f"{images[0].sha256}.safetensors"


def write_block(folder: Path, images: Sequence[ImageRecord], features: NDArray[np.float32]) -> Path:
    """Keep the features `[n, P, D_v]` of `n` images as a block; returns its path."""
    path = block_path(folder, images)
    small = to_float16(features, [image.image_id for image in images])
    metadata = block_metadata(folder.name, [image.sha256 for image in images], small)
    write_atomic(path, save({"features": small}, metadata))
    return path


def block_digests(path: Path) -> list[str]:
    """The SHA-256 of each image of a block, in order.

    Raises what safetensors does for a damaged file, and KeyError, TypeError or ValueError for what is no
    block of this folder's encoder.
    """
    with safe_open(path, framework="numpy") as file:
        return images_of_block(path.parent.name, file.metadata())


def _load(path: Path) -> Features:
    require_readable(path)
    try:
        with safe_open(path, framework="numpy") as file:
            block: Features = file.get_tensor("features")
            check_block(file.metadata(), block)
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        path.unlink(missing_ok=True)
        raise PipelineError(
            f"{path} was damaged ({error}) and has been removed; run the command again: it encodes the "
            "images of that block anew."
        ) from error
    return block
