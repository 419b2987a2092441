"""The captions of the controls for the test images: computed once, and kept in the scratch folder."""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.captions import CaptionRecord, of_split
from pipeline.features.compatibility import features_digest
from pipeline.features.store import FeatureStore
from pipeline.files.batched import batched
from pipeline.files.json_files import JsonObject, canonical_json
from pipeline.files.prediction_cache import PredictionCache
from pipeline.metrics.consensus import NEIGHBORS, Consensus
from pipeline.metrics.controls import constant_caption, nearest_rows
from pipeline.result_code import CONTROLS

# Images whose mean features are compared at a time: 3 MB for CLIP ViT-B/32.
_IMAGES = 1024
# How many images the consensus is of is chosen on so many dev images.
_DEV_IMAGES = 1000


def control_captions(
    store: FeatureStore, records: Sequence[CaptionRecord], scratch: Path
) -> tuple[dict[str, dict[str, str]], int]:
    """Return what each control says of each test image, and how many train images the consensus is of.

    The captions are by the keys of `metrics.scores.CONTROLS`; the shuffled ones are missing: they are the
    model's. What is kept in `scratch` under the digests of captions, and of features where they matter, is
    not computed again.
    """
    train, test = of_split(records, "train"), of_split(records, "test")
    dev = of_split(records, "dev")
    dev = dev[:: math.ceil(len(dev) / _DEV_IMAGES)]
    train_ids, dev_ids, test_ids = ([r.image_id for r in split] for split in (train, dev, test))
    facts: JsonObject = {"code": CONTROLS.digests(), "captions": _captions_digest(train)}
    features = {"features": [features_digest(store, ids) for ids in (train_ids, test_ids)]}
    of_dev = {"dev": [_captions_digest(dev), features_digest(store, dev_ids)]}

    def kept(compute: Callable[[], list[JsonObject]], count: int, **of_it: Any) -> list[JsonObject]:
        predictions = PredictionCache(scratch, {"control": compute.__name__, **facts, **of_it}, count)
        if predictions.missing:
            predictions.add(0, compute())
        return predictions.rows

    def constant() -> list[JsonObject]:
        return [{"caption": constant_caption({r.image_id: r.captions for r in train})}]

    @cache
    def neighbors() -> NDArray[np.int64]:
        """The rows nearest to each test image, and then to each dev image: train is read for both at once."""
        queries = np.concatenate(list(_mean_features(store, [*test_ids, *dev_ids])))
        count = min(max(NEIGHBORS), len(train))
        return nearest_rows(lambda: _mean_features(store, train_ids), queries, count)

    def nearest() -> list[JsonObject]:
        return [{"caption": train[row].captions[0]} for row in neighbors()[: len(test), 0]]

    def consensus() -> list[JsonObject]:
        of_train = Consensus([r.captions for r in train])
        rows = neighbors()
        images = of_train.choose_neighbors(rows[len(test) :], [r.captions for r in dev])
        return [{"caption": of_train.caption(row[:images]), "images": images} for row in rows[: len(test)]]

    of_consensus = kept(consensus, len(test), **features, **of_dev)
    rows = {
        "constant": kept(constant, 1) * len(test),
        "nearest": kept(nearest, len(test), **features),
        "consensus": of_consensus,
    }
    said = {
        name: {image: row["caption"] for image, row in zip(test_ids, of_test, strict=True)}
        for name, of_test in rows.items()
    }
    return said, of_consensus[0]["images"]


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
