"""Where training reads features from: memory if they fit there, else the store, image by image.

B: images asked for, P: tokens of an image, D_v: width of the encoder.
"""

import logging
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from pipeline.errors import PipelineError
from pipeline.feature_store import FeatureStore
from pipeline.free_memory import free_memory

logger = logging.getLogger(__name__)

# Of the memory that is free, as much may go to features: the rest is for the models and their work.
_SHARE = 0.25
# Where Linux keeps what processes share.
_SHARED_MEMORY = Path("/dev/shm")


class TrainingFeatures(Protocol):
    """Features of the training images, by their place in the list of training images."""

    def read(self, images: Sequence[int]) -> Tensor:
        """Features `[B, P, D_v]`, float16."""


def open_features(
    path: Path,
    spec: dict[str, Any],
    images: Mapping[str, str],
    where: Literal["auto", "memory", "disk"],
    shared: bool,
) -> TrainingFeatures:
    """Resolve `runtime.features` for the images of a training run, and log the choice.

    What is returned can be handed to worker processes, forked or spawned; `shared` puts what is in memory
    where they need no copy of it.

    Args:
        path: the store.
        spec: the encoder that the run began with.
        images: its training images, in order: id -> SHA-256 of the image file.
        where: `runtime.features`.
        shared: whether worker processes will read.

    Raises:
        PipelineError: for a store that is damaged, lacks an image, or was exchanged since the run began.
    """
    image_ids = list(images)
    with _open(path, spec, images) as store:
        size = 2 * len(image_ids) * store.spec["num_tokens"] * store.spec["width"]
        in_memory = _fits(size, shared) if where == "auto" else where == "memory"
        if in_memory and shared and size > _shared_memory():
            raise PipelineError(
                f"features take {size / 1e6:,.1f} MB of shared memory, but {_SHARED_MEMORY} has "
                f"{_shared_memory() / 1e6:,.1f} MB free; set runtime.num_workers: 0 or runtime.features: "
                "disk, or give the container more (docker run --shm-size)."
            )
        logger.info(
            "features: %.1f MB %s",
            size / 1e6,
            "read into memory" if in_memory else "left on disk and read as they are needed",
        )
        if in_memory:
            values = torch.from_numpy(store.read(image_ids))  # [n, P, D_v]
            return _InMemory(values.share_memory_() if shared else values)  # type: ignore[no-untyped-call]
    return _OnDisk(path, spec, dict(images))


def _open(path: Path, spec: dict[str, Any], images: Mapping[str, str]) -> FeatureStore:
    """The store, which must still be the one that the run began with."""
    store = FeatureStore(path)
    try:
        store.require_encoder(spec, "the training run")
        store.require_images(images, "the training run")
    except PipelineError:
        store.close()
        raise
    return store


def _fits(size: int, shared: bool) -> bool:
    free = min(free_memory(), _shared_memory()) if shared else free_memory()
    return size <= _SHARE * free


def _shared_memory() -> float:
    """Bytes that processes can share. Containers often have few, and who writes beyond them is killed."""
    return shutil.disk_usage(_SHARED_MEMORY).free if _SHARED_MEMORY.is_dir() else math.inf


class _InMemory:
    """All features in one tensor."""

    def __init__(self, values: Tensor) -> None:
        self._values = values  # [n, P, D_v]

    def read(self, images: Sequence[int]) -> Tensor:
        return self._values[torch.tensor(images)]  # [B, P, D_v]


class _OnDisk:
    """Features straight from the store's chunks.

    The file is opened on first use, once in each process: HDF5 handles survive neither pickling nor,
    reliably, a fork.
    """

    def __init__(self, path: Path, spec: dict[str, Any], images: dict[str, str]) -> None:
        self._path = path
        self._spec = spec
        self._images = images
        self._image_ids = list(images)
        self._store: FeatureStore | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_store": None}

    def read(self, images: Sequence[int]) -> Tensor:
        if self._store is None:
            self._store = _open(self._path, self._spec, self._images)
        ids = [self._image_ids[image] for image in images]
        return torch.from_numpy(self._store.read(ids))  # [B, P, D_v]
