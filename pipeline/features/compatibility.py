"""Whether a feature store is the one that other work was done with."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.errors import PipelineError
from pipeline.features.store import FeatureStore
from pipeline.files.batched import batched
from pipeline.files.differences import differences

# So many rows' digests are in memory at a time.
_ROWS = 1024


def features_digest(store: FeatureStore, image_ids: Sequence[str]) -> str:
    """SHA-256 (hex) over the features of images and the digests of their files, in order.

    Work that was computed from features is compared by it. It reads no features: the store has a digest of
    each row, and gives no row that has another. Raises PipelineError for an image that the store lacks.
    """
    total = hashlib.sha256()
    for ids in batched(image_ids, _ROWS):
        total.update("".join(store.row_digests(ids)).encode())
    return total.hexdigest()


def require_encoder(store: FeatureStore, spec: Mapping[str, Any], wanted_by: str) -> None:
    """Raise PipelineError for the first fact in which the store's encoder differs from `spec`."""
    for name, found, wanted in differences(store.spec, spec):
        raise PipelineError(
            f"{store.path} was made with encoder {name} {found!r}, but {wanted_by} needs {wanted!r}; run "
            "`dvc repro`."
        )
