"""One digest for the features of many images: what was computed from them is compared with it."""

import hashlib
from collections.abc import Sequence

from pipeline.features.store import FeatureStore

# Digests of so many rows are held at a time.
_ROWS = 1024


def features_digest(store: FeatureStore, image_ids: Sequence[str]) -> str:
    """SHA-256 (hex) over the features of images and the digests of their files, in order.

    Reads no features: the store holds a digest of each row, and gives no row that has another. Raises
    PipelineError for an image that the store lacks.
    """
    total = hashlib.sha256()
    for first in range(0, len(image_ids), _ROWS):
        total.update("".join(store.row_digests(image_ids[first : first + _ROWS])).encode())
    return total.hexdigest()
