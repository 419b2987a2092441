"""memory.h5: what the train images look like, and what people said of them.

Captions are retrieved by the mean of an image's features, and by the captions that are predicted from it
(`caption_space`): both cosines are added. A checkpoint that was trained with retrieved captions names its
memory by digest, and captions with that memory.

N: train images, Q: images that neighbors are asked of, P: tokens of an image, D_v: width of the encoder,
K: dimensions of the caption space, at most 100.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.captions import SimilarCaptions
from pipeline.files import hdf5
from pipeline.files.json_files import canonical_json
from pipeline.retrieval.nearest import nearest_rows, standardize, unit_rows

FORMAT_VERSION = 1
MEMORY_NAME = "memory.h5"
_NAMED = ("keys", "records", "offsets")
_ARRAYS = ("vectors", "center", "scale", "weights", *_NAMED)


@dataclass(frozen=True)
class Memory:
    """The captions of train images, found by the features of an image. It takes 2 (D_v + K) bytes an image.

    Attributes:
        spec: every fact of the encoder that the features depend on.
        vectors: `[N, D_v + K]`, the standardized mean feature of each image and its place in the caption
            space, each of length 1.
        center, scale: `[D_v]`, what each channel was standardized by.
        weights: `[D_v, K]`, the map from standardized mean features to the caption space.
        keys: `[N]`, of the images' files: equal files have equal keys.
        records: image ids and captions as JSON, one image after the other.
        offsets: `[N + 1]`, where each image's record begins.
        path: the file that it was read from.
    """

    spec: Mapping[str, Any]
    vectors: NDArray[np.float16] = field(repr=False)
    center: NDArray[np.float32] = field(repr=False)
    scale: NDArray[np.float32] = field(repr=False)
    weights: NDArray[np.float32] = field(repr=False)
    keys: NDArray[np.uint64] = field(repr=False)
    records: NDArray[np.uint8] = field(repr=False)
    offsets: NDArray[np.int64] = field(repr=False)
    path: Path | None = None

    def __len__(self) -> int:
        return len(self.vectors)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over encoder, files and captions: what names the memory.

        Vectors and map follow from these; their last bits depend on the machine.
        """
        return self._digest(_NAMED)

    def _digest(self, names: Sequence[str]) -> str:
        total = hashlib.sha256(canonical_json(self.spec).encode())
        for name in names:
            values = getattr(self, name)
            total.update(f"{name}{values.shape}".encode())
            total.update(np.ascontiguousarray(values).data)
        return total.hexdigest()

    def _require_consistent(self) -> None:
        """Raise ValueError unless arrays and records fit each other: a checksum can be made by anyone."""
        count, width = len(self.keys), self.spec["width"]
        dimensions = self.weights.shape[-1]
        shapes = {
            "vectors": (count, width + dimensions),
            "center": (width,),
            "scale": (width,),
            "weights": (width, dimensions),
            "offsets": (count + 1,),
        }
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} has the shape {getattr(self, name).shape}, expected {shape}")
        if self.offsets[0] or self.offsets[-1] != len(self.records) or (np.diff(self.offsets) <= 0).any():
            raise ValueError("its records do not follow each other")
        for row in range(count):
            image_id, captions = self.record(row)
            # An image that has only questions has no captions to show.
            are_texts = isinstance(captions, list) and all(isinstance(c, str) for c in captions)
            if not (isinstance(image_id, str) and are_texts):
                raise ValueError(f"record {row} is not an image id and its captions")

    def record(self, row: int) -> tuple[str, list[str]]:
        """The id of a train image and all its captions."""
        image_id, captions = json.loads(self.records[self.offsets[row] : self.offsets[row + 1]].tobytes())
        return image_id, captions

    def captions(self, row: int) -> list[str]:
        """All captions of a train image."""
        return self.record(row)[1]

    def queries(self, means: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what images with the mean features `[Q, D_v]` are sought by: `[Q, D_v + K]`."""
        features = standardize(means, self.center, self.scale)
        return np.hstack([unit_rows(features), unit_rows(features @ self.weights)])

    def nearest(
        self, queries: NDArray[np.float32], count: int, keys: NDArray[np.uint64] | None = None
    ) -> NDArray[np.int32]:
        """Return the rows `[Q, count]` of the train images nearest to each query, the nearest first.

        Args:
            queries: `[Q, D_v + K]`, as `queries` gives them.
            count: how many; rows are -1 where there are too few images.
            keys: of the images' files; none of them is its own neighbor. None: files that are unknown.
        """
        return nearest_rows(self.vectors, queries, count, None if keys is None else (self.keys, keys))

    def similar(self, rows: Sequence[int] | NDArray[np.int32]) -> SimilarCaptions:
        """The captions of the train images of these rows, those that are -1 aside."""
        return [self.captions(int(row)) for row in rows if row >= 0]

    def retrieve(self, features: NDArray[np.float16], count: int) -> list[SimilarCaptions]:
        """For each image of features `[Q, P, D_v]`, the captions of its `count` nearest train images."""
        return [self.similar(rows) for rows in self.nearest(self.queries(mean_features(features)), count)]

    def write(self, path: Path) -> None:
        """Write the memory, atomically; equal memories give equal bytes."""
        with hdf5.new_file(path) as file:
            for name in _ARRAYS:
                file.create_dataset(name, data=getattr(self, name))
            file.attrs["format_version"] = FORMAT_VERSION
            hdf5.write_attribute(file, "encoder", canonical_json(self.spec))
            hdf5.write_attribute(file, "checksum", self._digest(_ARRAYS))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a memory. Raises PipelineError for a missing, foreign or damaged file, be it by one bit."""
        with hdf5.open_file(path, FORMAT_VERSION, "a memory of captions", "retrieve") as file:
            spec = json.loads(hdf5.read_attribute(file, "encoder"))
            memory = cls(spec, **{name: hdf5.read_array(file, name) for name in _ARRAYS}, path=path)
            if hdf5.read_attribute(file, "checksum") != memory._digest(_ARRAYS):
                raise ValueError("its checksum is wrong")
            memory._require_consistent()
        return memory


def mean_features(features: NDArray[np.float16]) -> NDArray[np.float32]:
    """Features `[Q, P, D_v]` averaged over the tokens of each image: `[Q, D_v]`."""
    means: NDArray[np.float32] = features.astype(np.float32).mean(axis=1)
    return means
