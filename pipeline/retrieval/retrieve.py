"""The retrieve stage: collect the memory of the train images, and find the neighbors of every image.

An image, or a file with the same bytes, is never its own neighbor.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.captions import CaptionRecord, read_captions, select_split
from pipeline.errors import PipelineError
from pipeline.features.store import FeatureStore
from pipeline.files.batched import batched
from pipeline.files.json_files import canonical_json, digest
from pipeline.retrieval.caption_space import caption_vectors, fit
from pipeline.retrieval.memory import Memory, mean_features
from pipeline.retrieval.nearest import blocks, center_and_scale, standardize, unit_rows
from pipeline.retrieval.neighbors import Neighbors

# As many as the consensus control has a use for.
MOST_NEIGHBORS = 50
# Images whose neighbors are sought at a time.
_IMAGES = 512


@dataclass(frozen=True)
class RetrievePaths:
    """Where the retrieve stage reads and writes."""

    features: Path = Path("data/features.h5")
    captions: Path = Path("data/captions.jsonl")
    memory: Path = Path("data/memory.h5")
    neighbors: Path = Path("data/neighbors.h5")


def build_memory(store: FeatureStore, train: Sequence[CaptionRecord]) -> tuple[Memory, NDArray[np.float32]]:
    """Collect mean features and captions of the train images, in their order.

    Returns the memory, and where in the caption space each train image would be sought, `[N, K]`.
    Raises PipelineError for no images, or one that the store lacks.
    """
    if not train:
        raise PipelineError(
            "There are no train images to retrieve captions of. Fix: run `dvc repro prepare`."
        )
    means = np.empty((len(train), store.spec["width"]), np.float16)
    for row, record in enumerate(train):
        means[row] = mean_features(store.read([record.image_id]))[0]
    center, scale = center_and_scale(means)
    targets = caption_vectors([record.texts for record in train])
    weights, expected = fit(lambda block: standardize(means[block], center, scale), targets)
    vectors = np.empty((len(train), means.shape[1] + targets.shape[1]), np.float16)
    for block in blocks(len(train)):
        features = unit_rows(standardize(means[block], center, scale))
        vectors[block] = np.hstack([features, unit_rows(targets[block])])
    texts = [canonical_json([record.image_id, record.captions]).encode() for record in train]
    memory = Memory(
        spec=store.spec,
        vectors=vectors,
        center=center,
        scale=scale,
        weights=weights,
        keys=_file_keys(store, [record.image_id for record in train]),
        records=np.frombuffer(b"".join(texts), np.uint8),
        offsets=np.cumsum([0, *map(len, texts)], dtype=np.int64),
    )
    return memory, unit_rows(expected)


def _file_keys(store: FeatureStore, image_ids: Sequence[str]) -> NDArray[np.uint64]:
    """The keys `[Q]` of images' files: the last 64 bits of their digests."""
    return np.array([int(store.file_digest(image_id)[-16:], 16) for image_id in image_ids], np.uint64)


def retrieve(paths: RetrievePaths, similar_captions: int) -> tuple[Memory, Neighbors]:
    """Write the memory of the train images, and the neighbors of the others.

    With `similar_captions` those of train images are sought as well: training shows their captions.
    """
    records = read_captions(paths.captions)
    train = select_split(records, "train")
    image_ids = [r.image_id for r in records if similar_captions or r.split != "train"]
    with FeatureStore(paths.features) as store:
        memory, expected = build_memory(store, train)
        train_rows = {record.image_id: row for row, record in enumerate(train)}
        count = min(MOST_NEIGHBORS, len(memory))
        rows = []
        for some in batched(image_ids, _IMAGES):
            queries = memory.queries(mean_features(store.read(some)))
            for place, image_id in enumerate(some):
                if image_id in train_rows:
                    queries[place, store.spec["width"] :] = expected[train_rows[image_id]]
            rows.append(memory.nearest(queries, count, _file_keys(store, some)))
    all_rows = np.concatenate([np.empty((0, count), np.int32), *rows])
    neighbors = Neighbors(memory.digest, digest([r.image_id for r in train]), image_ids, all_rows)
    memory.write(paths.memory)
    neighbors.write(paths.neighbors)
    return memory, neighbors
