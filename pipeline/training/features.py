"""Where training reads features from: memory if they fit there, else the store, image by image.

B: images of a batch, P: tokens of an image, D_v: width of the encoder.
"""

import logging
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from pipeline.features.store import FeatureStore
from pipeline.hardware.memory import free_memory

logger = logging.getLogger(__name__)

# Features may take this share of the free memory; the rest is for the models and their work.
_SHARE = 0.25


class TrainingFeatures:
    """Features of the training images: their digest and every value come from one open store.

    Attributes:
        spec: the spec of the encoder.
        digest: `FeatureStore.digest` of the images.
    """

    def __init__(
        self, store: FeatureStore, image_ids: Sequence[str], loading: Literal["auto", "memory", "disk"]
    ) -> None:
        """Resolve `runtime.feature_loading` for these images, and log the choice.

        The store must stay open. Raises PipelineError if it lacks an image or is damaged.
        """
        self._store = store
        self._image_ids = image_ids
        self.spec = store.spec
        self.digest = store.digest(image_ids)
        size = 2 * len(image_ids) * self.spec["num_tokens"] * self.spec["width"]
        in_memory = size <= _SHARE * free_memory() if loading == "auto" else loading == "memory"
        place = "read into memory" if in_memory else "left on disk, read batch by batch"
        logger.info("features: %.1f MB %s", size / 1e6, place)
        self._values = torch.from_numpy(store.read(image_ids)) if in_memory else None  # [n, P, D_v]

    def read(self, images: Sequence[int]) -> Tensor:
        """Return features `[B, P, D_v]`, float16, of images by their index in the list."""
        if self._values is None:
            return torch.from_numpy(self._store.read([self._image_ids[image] for image in images]))
        return self._values[torch.tensor(images)]
