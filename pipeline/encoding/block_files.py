"""Block files of finished features: written whole and read row by row, every part under a checksum.

A block is a safetensors file, whose format has no checksums. Its metadata lists its images and the digest of
each row, and has a checksum: the list is verified before any features are read, and a row without the others.
P: tokens of an image, D_v: width of the encoder.
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

# `Block` raises these for a file that is damaged, another encoder's, or not a block.
DAMAGED = (KeyError, ValueError, TypeError, AttributeError)
# One key, because safetensors writes several in random order.
_KEY = "block"


class Block:
    """A block in its encoder's folder.

    The constructor reads and checks the metadata; `read` reads a single row. Both raise one of `DAMAGED`, or
    PipelineError if the system refuses to read the file.
    """

    def __init__(self, path: Path) -> None:
        with explain_read_errors(path), path.open("rb") as file:
            header, self._begin = read_header(file)
        metadata = json.loads(header["__metadata__"][_KEY])
        if metadata.pop("checksum") != digest(metadata):
            raise ValueError("the checksum of its images is wrong")
        if metadata["encoder"] != path.parent.name:
            raise ValueError(f"it is of the encoder {metadata['encoder']}, not {path.parent.name}")
        self.images: list[str] = metadata["images"]
        if path != block_path(path.parent, self.images):
            raise ValueError("it holds other images than its name says")
        self._path = path
        self._digests: list[str] = metadata["rows"]
        self._row_shape: list[int] = metadata["shape"][1:]
        size = 2 * math.prod(metadata["shape"])
        if header["features"] != {"dtype": "F16", "shape": metadata["shape"], "data_offsets": [0, size]}:
            raise ValueError(f"its features are {header['features']}")

    def read(self, row: int, sha256: str) -> Features:
        """The features `[P, D_v]` in a row, which must be those of the image with that digest."""
        if self.images[row : row + 1] != [sha256]:
            raise ValueError(f"row {row} is not that of the image with sha256 {sha256:.12}")
        size = 2 * math.prod(self._row_shape)
        with explain_read_errors(self._path), self._path.open("rb", buffering=0) as file:
            content = os.pread(file.fileno(), size, self._begin + row * size)
        # The format is little-endian. Too few bytes for a row are a ValueError.
        values: Features = np.frombuffer(content, "<f2").reshape(self._row_shape)
        if row_digest(sha256, values) != self._digests[row]:
            raise ValueError("its checksum is wrong")
        return values


def block_path(folder: Path, sha256s: Sequence[str]) -> Path:
    """The path of the block of these images, which is no other block's."""
    return folder / f"{digest(list(sha256s))}.safetensors"


def write_block(folder: Path, images: Sequence[ImageRecord], features: NDArray[np.float32]) -> Path:
    """Write features `[n, P, D_v]` of `n` images as a float16 block of the folder's encoder; return its path.

    Raises PipelineError for an image whose features do not fit float16.
    """
    with np.errstate(over="ignore"):
        small = features.astype(np.float16)
    for image, values in zip(images, small, strict=True):
        if not np.isfinite(values).all():
            raise PipelineError(
                f"The features of {image.image_id} are not finite in float16. "
                "Fix: check the image, or use another encoder."
            )
    sha256s = [image.sha256 for image in images]
    metadata = {
        "encoder": folder.name,
        "images": sha256s,
        "rows": [row_digest(*row) for row in zip(sha256s, small, strict=True)],
        "shape": list(small.shape),
    }
    path = block_path(folder, sha256s)
    signed = canonical_json({**metadata, "checksum": digest(metadata)})
    write_atomic(path, save({"features": small}, {_KEY: signed}))
    return path
