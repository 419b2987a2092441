"""The captions of the controls for the test images: computed once, and kept in the scratch folder."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.captions import CaptionRecord, of_split
from pipeline.features.compatibility import features_digest
from pipeline.features.store import FeatureStore
from pipeline.files.batched import batched
from pipeline.files.json_files import canonical_json
from pipeline.files.prediction_cache import PredictionCache
from pipeline.metrics.controls import constant_caption, nearest_rows
from pipeline.result_code import CONTROLS

# Images whose mean features are compared at a time: 3 MB for CLIP ViT-B/32.
_IMAGES = 1024


def control_captions(
    store: FeatureStore, records: Sequence[CaptionRecord], scratch: Path
) -> dict[str, dict[str, str]]:
    """Return what each control says of each test image, by the keys of `metrics.scores.CONTROLS`.

    The shuffled captions are missing: they are the model's. What is kept in `scratch` under the digests of
    captions, and of features where they matter, is not computed again.
    """
    train, test = of_split(records, "train"), of_split(records, "test")
    train_ids, test_ids = [r.image_id for r in train], [r.image_id for r in test]
    facts = {"code": CONTROLS.digests(), "captions": _captions_digest(train)}
    features = [features_digest(store, ids) for ids in (train_ids, test_ids)]

    def kept(name: str, count: int, compute: Callable[[], list[str]], **of_it: Any) -> list[str]:
        cache = PredictionCache(scratch, {"control": name, **facts, **of_it}, count)
        if cache.missing:
            cache.add(0, [{"caption": caption} for caption in compute()])
        return [row["caption"] for row in cache.rows]

    def nearest() -> list[str]:
        queries = np.concatenate(list(_mean_features(store, test_ids)))
        rows = nearest_rows(lambda: _mean_features(store, train_ids), queries, 1)
        return [train[row].captions[0] for row in rows[:, 0]]

    constant = kept("constant", 1, lambda: [constant_caption({r.image_id: r.captions for r in train})])
    neighbors = kept("nearest", len(test), nearest, features=features)
    return {
        "constant": dict.fromkeys(test_ids, constant[0]),
        "nearest": dict(zip(test_ids, neighbors, strict=True)),
    }


def _mean_features(store: FeatureStore, image_ids: Sequence[str]) -> Iterator[NDArray[np.float32]]:
    """Yield each image's features averaged over its patches, `[n, D_v]`, some images at a time."""
    for batch in batched(image_ids, _IMAGES):
        yield np.stack([store.read([i])[0].astype(np.float32).mean(axis=0) for i in batch])


def _captions_digest(records: Sequence[CaptionRecord]) -> str:
    """Return the SHA-256 (hex) over image ids and captions, without one text of them all."""
    total = hashlib.sha256()
    for record in records:
        total.update(canonical_json([record.image_id, record.captions]).encode())
    return total.hexdigest()
