"""Compare a feature store with the features that other work was done with."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.errors import PipelineError
from pipeline.features.store import FeatureStore
from pipeline.files.batched import batched
from pipeline.files.differences import differences

_ROWS = 1024  # digests in memory at a time


def features_digest(store: FeatureStore, image_ids: Sequence[str]) -> str:
    """SHA-256 (hex) over the row digests of images, in order, which stands for their features and files.

    No features are read: the store gives no row that has another digest. Raises PipelineError for an image
    that is not in the store.
    """
    total = hashlib.sha256()
    for ids in batched(image_ids, _ROWS):
        total.update("".join(store.row_digests(ids)).encode())
    return total.hexdigest()


def require_encoder(store: FeatureStore, spec: Mapping[str, Any], wanted_by: str) -> None:
    """Raise PipelineError for the first setting in which the store's encoder differs from `spec`."""
    for name, actual, expected in differences(store.spec, spec):
        raise PipelineError(
            f"{store.path} was made with encoder {name} {actual!r}, but {wanted_by} needs {expected!r}. "
            "Fix: run `dvc repro`."
        )
