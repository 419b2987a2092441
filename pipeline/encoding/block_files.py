"""A block of finished features: one file, written whole and read row by row, every part under a checksum.

It is a safetensors file, whose format has no checksums. Here the metadata list a block's images and the
digest of each row, and have a checksum of their own: the list is trusted only if it is good, before any
features are read, and a row is verified without the others. P: tokens of an image, D_v: width of the encoder.
"""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from pipeline.captions import ImageRecord
from pipeline.errors import PipelineError
from pipeline.features.store import Features, row_digest
from pipeline.files.disk_errors import explain_read_errors
from pipeline.files.json_files import canonical_json, digest, write_atomic
from pipeline.files.safetensors_files import read_header

# What `Block` raises for a file that is damaged, another encoder's, or not a block.
DAMAGED = (KeyError, ValueError, TypeError, AttributeError)
# One key: safetensors writes several in random order.
_KEY = "block"


class Block:
    """A block in its encoder's folder.

    Making one reads and checks what the block says of itself; reading a row reads that row alone. Both raise
    one of `DAMAGED`, or PipelineError where the system refuses to read the file.
    """

    def __init__(self, path: Path) -> None:
        with explain_read_errors(path), path.open("rb") as file:
            header, self._begin = read_header(file)
        facts = json.loads(header["__metadata__"][_KEY])
        if facts.pop("checksum") != digest(facts):
            raise ValueError("the checksum of its images is wrong")
        if facts["encoder"] != path.parent.name:
            raise ValueError(f"it is of the encoder {facts['encoder']}, not {path.parent.name}")
        self.images: list[str] = facts["images"]
        if path != block_path(path.parent, self.images):
            raise ValueError("it holds other images than its name says")
        self._path = path
        self._digests: list[str] = facts["rows"]
        self._row_shape: list[int] = facts["shape"][1:]
        size = 2 * math.prod(facts["shape"])
        if header["features"] != {"dtype": "F16", "shape": facts["shape"], "data_offsets": [0, size]}:
            raise ValueError(f"its features are {header['features']}")

    def read(self, row: int, sha256: str) -> Features:
        """The features `[P, D_v]` in a row, which must be those of the image with that digest."""
        if self.images[row : row + 1] != [sha256]:
            raise ValueError(f"row {row} is not that of the image with sha256 {sha256:.12}")
        size = 2 * math.prod(self._row_shape)
        with explain_read_errors(self._path), self._path.open("rb", buffering=0) as file:
            content = os.pread(file.fileno(), size, self._begin + row * size)
        # A little-endian format; what is too short for a row is a ValueError.
        values: Features = np.frombuffer(content, "<f2").reshape(self._row_shape)
        if row_digest(sha256, values) != self._digests[row]:
            raise ValueError("its checksum is wrong")
        return values


def block_path(folder: Path, sha256s: Sequence[str]) -> Path:
    """Where the block of these images lies: no block of others is ever written over it."""
    return folder / f"{digest(list(sha256s))}.safetensors"


def write_block(folder: Path, images: Sequence[ImageRecord], features: NDArray[np.float32]) -> Path:
    """Keep the features `[n, P, D_v]` of `n` images as a block of the folder's encoder; returns its path."""
    small = to_float16(features, [image.image_id for image in images])
    sha256s = [image.sha256 for image in images]
    facts = {
        "encoder": folder.name,
        "images": sha256s,
        "rows": [row_digest(*row) for row in zip(sha256s, small, strict=True)],
        "shape": list(small.shape),
    }
    metadata = {_KEY: canonical_json({**facts, "checksum": digest(facts)})}
    path = block_path(folder, sha256s)
    write_atomic(path, save({"features": small}, metadata))
    return path


def to_float16(features: NDArray[np.float32], image_ids: Sequence[str]) -> Features:
    """Features `[n, P, D_v]` as stored; PipelineError names an image whose values do not fit float16."""
    with np.errstate(over="ignore"):
        small = features.astype(np.float16)
    for image_id, values in zip(image_ids, small, strict=True):
        if not np.isfinite(values).all():
            raise PipelineError(
                f"the features of {image_id} are not finite in float16; check the image and the encoder."
            )
    return small
