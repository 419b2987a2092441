"""Where training reads features from: memory if they fit there, else the store, image by image.

B: images asked for, P: tokens of an image, D_v: width of the encoder.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

import psutil
import torch
from torch import Tensor

from pipeline.feature_store import FeatureStore

logger = logging.getLogger(__name__)

# Of the memory that is free, as much may go to features: the rest is for the models and their work.
_SHARE = 0.25


class TrainingFeatures(Protocol):
    """Features of the training images, by their place in the list of training images."""

    def read(self, images: Sequence[int]) -> Tensor:
        """Features `[B, P, D_v]`, float16."""


def open_features(
    path: Path, image_ids: Sequence[str], where: Literal["auto", "memory", "disk"]
) -> TrainingFeatures:
    """Resolve `runtime.features` for the images of a training run, and log the choice.

    What is returned can be handed to worker processes, forked or spawned. Raises PipelineError for a store
    that is damaged or lacks one of the images.
    """
    with FeatureStore(path) as store:
        size = 2 * len(image_ids) * store.spec["num_tokens"] * store.spec["width"]
        free = psutil.virtual_memory().available
        in_memory = size <= _SHARE * free if where == "auto" else where == "memory"
        logger.info(
            "features: %.1f MB %s (%.1f GB of memory are free)",
            size / 1e6,
            "read into memory" if in_memory else "left on disk and read as they are needed",
            free / 1e9,
        )
        if in_memory:
            return _InMemory(torch.from_numpy(store.read(image_ids)))
    return _OnDisk(path, list(image_ids))


class _InMemory:
    """All features in one tensor, in memory that worker processes share instead of copying it."""

    def __init__(self, values: Tensor) -> None:
        self._values: Tensor = values.share_memory_()  # type: ignore[no-untyped-call]  # [n, P, D_v]

    def read(self, images: Sequence[int]) -> Tensor:
        return self._values[torch.tensor(images)]  # [B, P, D_v]


class _OnDisk:
    """Features straight from the store's chunks.

    The file is opened on first use, once in each process: HDF5 handles survive neither pickling nor,
    reliably, a fork.
    """

    def __init__(self, path: Path, image_ids: list[str]) -> None:
        self._path = path
        self._image_ids = image_ids
        self._store: FeatureStore | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_store": None}

    def read(self, images: Sequence[int]) -> Tensor:
        if self._store is None:
            self._store = FeatureStore(self._path)
        ids = [self._image_ids[image] for image in images]
        return torch.from_numpy(self._store.read(ids))  # [B, P, D_v]
