"""Where training reads features from: memory if they fit there, else the store, image by image.

B: images asked for, P: tokens of an image, D_v: width of the encoder.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from pipeline.features.store import FeatureStore
from pipeline.hardware.free_memory import free_memory

logger = logging.getLogger(__name__)

# Of the memory that is free, as much may go to features: the rest is for the models and their work.
_SHARE = 0.25


class TrainingFeatures(Protocol):
    """Features of the training images, by their place in the list of training images."""

    def read(self, images: Sequence[int]) -> Tensor:
        """Features `[B, P, D_v]`, float16."""


def open_features(
    path: Path,
    spec: dict[str, Any],
    images: Mapping[str, str],
    where: Literal["auto", "memory", "disk"],
) -> TrainingFeatures:
    """Resolve `runtime.features` for the images of a training run, and log the choice.

    Args:
        path: the store.
        spec: the encoder that the run began with.
        images: its training images, in order: id -> SHA-256 of the image file.
        where: `runtime.features`.

    Raises:
        PipelineError: for a store that is damaged, lacks an image, or was exchanged since the run began.
    """
    image_ids = list(images)
    store = FeatureStore(path)
    try:
        store.require_encoder(spec, "the training run")
        store.require_images(images, "the training run")
        size = 2 * len(image_ids) * store.spec["num_tokens"] * store.spec["width"]
        in_memory = size <= _SHARE * free_memory() if where == "auto" else where == "memory"
        logger.info(
            "features: %.1f MB %s",
            size / 1e6,
            "read into memory" if in_memory else "left on disk and read as they are needed",
        )
        values = torch.from_numpy(store.read(image_ids)) if in_memory else None  # [n, P, D_v]
    except BaseException:
        store.close()
        raise
    if values is None:
        return _OnDisk(store, image_ids)
    store.close()
    return _InMemory(values)


class _InMemory:
    """All features in one tensor."""

    def __init__(self, values: Tensor) -> None:
        self._values = values  # [n, P, D_v]

    def read(self, images: Sequence[int]) -> Tensor:
        return self._values[torch.tensor(images)]  # [B, P, D_v]


class _OnDisk:
    """Features straight from the store's chunks. It stays open: a file put in its place changes nothing."""

    def __init__(self, store: FeatureStore, image_ids: list[str]) -> None:
        self._store = store
        self._image_ids = image_ids

    def read(self, images: Sequence[int]) -> Tensor:
        return torch.from_numpy(self._store.read([self._image_ids[image] for image in images]))  # [B, P, D_v]
