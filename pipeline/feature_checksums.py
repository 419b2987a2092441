"""Checksums of features where their files have none, or one that says too little.

safetensors keeps no checksum, and HDF5 none of text. Its checksum of a chunk is 0 for zeros, and does not say
whose chunk it is: a row that was zeroed together with it, or exchanged with another, passes.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.records import canonical_json

# One key: safetensors writes several in random order.
_KEY = "block"


def block_metadata(encoder: str, sha256s: Sequence[str], features: NDArray[np.float16]) -> dict[str, str]:
    """The metadata of a block file: its encoder, its images' digests, a checksum of these and the features.

    `encoder` names the folder of the encoder's blocks.
    """
    facts = {"encoder": encoder, "images": list(sha256s)}
    return {_KEY: canonical_json({**facts, "checksum": _of_block(facts, features)})}


def images_of_block(encoder: str, metadata: Mapping[str, str] | None) -> list[str]:
    """The digests of a block's images, in order.

    Raises KeyError, TypeError or ValueError for what is no block, or another encoder's.
    """
    facts = json.loads((metadata or {})[_KEY])
    if facts["encoder"] != encoder:
        raise ValueError(f"it is of the encoder {facts['encoder']}, not {encoder}")
    images: list[str] = facts["images"]
    return images


def check_block(metadata: Mapping[str, str], features: NDArray[np.float16]) -> None:
    """Raise ValueError, KeyError or TypeError unless the block is as it was written."""
    facts = json.loads(metadata[_KEY])
    if facts.pop("checksum") != _of_block(facts, features):
        raise ValueError("its checksum is wrong")


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


def _of_block(facts: Mapping[str, Any], features: NDArray[np.float16]) -> str:
    total = hashlib.sha256(canonical_json(facts).encode())
    total.update(np.ascontiguousarray(features).data)
    return total.hexdigest()
