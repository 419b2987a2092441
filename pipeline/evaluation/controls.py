"""The captions of the controls for the test images: computed once, and stored in the scratch folder."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.captions import SPLITS, CaptionRecord, select_split
from pipeline.features.compatibility import features_digest
from pipeline.features.store import FeatureStore
from pipeline.files.batched import batched
from pipeline.files.json_files import JsonObject, digest
from pipeline.files.prediction_cache import PredictionCache
from pipeline.metrics.consensus import NEIGHBORS, Consensus
from pipeline.metrics.controls import constant_caption, nearest_rows
from pipeline.result_code import CONTROLS

# Images whose mean features are compared at a time: 3 MB for CLIP ViT-B/32.
_IMAGES = 1024
# Dev images, at most, on which the number of images of the consensus is chosen.
_DEV_IMAGES = 1000


def control_captions(
    store: FeatureStore, records: Sequence[CaptionRecord], scratch: Path
) -> tuple[dict[str, dict[str, str]], int]:
    """Return each control's caption of each test image, and how many train images the consensus is of.

    The captions are by the keys of `metrics.scores.CONTROLS`, without `shuffled`, which is the model's.
    What lies in `scratch` under the digests of captions, and of features where they matter, is not
    computed again.
    """
    train, dev, test = (select_split(records, split) for split in SPLITS)
    dev = dev[:: math.ceil(len(dev) / _DEV_IMAGES)]
    shared = {"code": CONTROLS.digests(), "captions": _captions_digest(train)}
    constant = PredictionCache(scratch, {"control": "constant", **shared}, 1)
    if constant.missing:
        constant.add(0, [{"caption": constant_caption({r.image_id: r.captions for r in train})}])
    features = [features_digest(store, [r.image_id for r in split]) for split in (train, dev, test)]
    own = {"control": "neighbors", "features": features, "dev": _captions_digest(dev)}
    neighbors = PredictionCache(scratch, shared | own, len(test))
    if neighbors.missing:
        neighbors.add(0, _neighbor_captions(store, train, dev, test))
    ids = [record.image_id for record in test]
    captions = {"constant": {image_id: str(constant.rows[0]["caption"]) for image_id in ids}}
    for name in ("nearest", "consensus"):
        captions[name] = dict(zip(ids, (row[name] for row in neighbors.rows), strict=True))
    return captions, int(neighbors.rows[0]["images"])


def _neighbor_captions(
    store: FeatureStore,
    train: Sequence[CaptionRecord],
    dev: Sequence[CaptionRecord],
    test: Sequence[CaptionRecord],
) -> list[JsonObject]:
    """Caption each test image by its nearest train image, and by the consensus of several."""
    # Train is read for test and dev at once.
    queries = np.concatenate(list(_mean_features(store, [*test, *dev])))
    count = min(max(NEIGHBORS), len(train))
    rows = nearest_rows(lambda: _mean_features(store, train), queries, count)
    consensus = Consensus([record.captions for record in train])
    images = consensus.choose_neighbors(rows[len(test) :], [record.captions for record in dev])
    return [
        {
            "nearest": train[row[0]].captions[0],
            "consensus": consensus.caption(row[:images]),
            "images": images,
        }
        for row in rows[: len(test)]
    ]


def _mean_features(store: FeatureStore, records: Sequence[CaptionRecord]) -> Iterator[NDArray[np.float32]]:
    """Yield each image's features averaged over its patches, `[n, D_v]`, some images at a time."""
    for batch in batched(records, _IMAGES):
        yield np.stack([store.read([r.image_id])[0].astype(np.float32).mean(axis=0) for r in batch])


def _captions_digest(records: Sequence[CaptionRecord]) -> str:
    """Return the SHA-256 (hex) over image ids and captions, without one text of them all."""
    return digest([digest([record.image_id, record.captions]) for record in records])
