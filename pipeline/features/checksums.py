"""Checksums of a feature store, where HDF5's own say too little.

HDF5 has none of text. That of a chunk is 0 for zeros, and does not say whose chunk it is: a row that was
zeroed together with it, or exchanged with another, passes.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.files.json_files import canonical_json


def row_digest(sha256: str, features: NDArray[np.float16]) -> str:
    """SHA-256 (hex) over an image's own digest and its features `[P, D_v]`."""
    total = hashlib.sha256(sha256.encode())
    total.update(np.ascontiguousarray(features).data)
    return total.hexdigest()


class FactsChecksum:
    """SHA-256 over what a store says of its encoder and of its images, taken in one by one."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._total = hashlib.sha256(canonical_json(spec).encode())

    def add(self, image_id: str, sha256: str, digest: str) -> None:
        """Take in the next image: its id, its file's digest, its row's digest."""
        self._total.update(canonical_json([image_id, sha256, digest]).encode())

    def value(self) -> str:
        """The checksum (hex) of what was taken in so far."""
        return self._total.hexdigest()
