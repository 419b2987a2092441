"""neighbors.h5: for each image, the train images that look most like it.

M: images, K: neighbors of each.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.captions import SimilarCaptions
from pipeline.errors import PipelineError
from pipeline.files import hdf5
from pipeline.files.json_files import canonical_json, digest
from pipeline.retrieval.memory import Memory

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Neighbors:
    """The nearest train images of each image.

    Attributes:
        memory: the digest of the memory whose rows they are.
        train: the digest of the ids of its images, in order (`json_files.digest`).
        image_ids: of the images that have neighbors here, sorted.
        rows: `[M, K]`, rows of the memory, the nearest first; -1 where there are too few.
    """

    memory: str
    train: str
    image_ids: Sequence[str]
    rows: NDArray[np.int32]

    def lookup(self, image_ids: Sequence[str]) -> NDArray[np.int32]:
        """The rows `[n, K]` of these images. Raises PipelineError for an image without neighbors."""
        places = []
        for image_id in image_ids:
            place = hdf5.find_text(self.image_ids, image_id)
            if place is None:
                raise PipelineError(f"{image_id} has no neighbors. Fix: run `dvc repro retrieve`.")
            places.append(place)
        return self.rows[places]

    def require_train(self, image_ids: Sequence[str], path: Path, source: object) -> None:
        """Raise PipelineError unless the rows of `path` are these train images, those of `source`."""
        if self.train != digest(list(image_ids)):
            raise PipelineError(
                f"The rows of {path} are not the {len(image_ids)} train images of {source}. "
                "Fix: run `dvc repro train`."
            )

    def write(self, path: Path) -> None:
        """Write neighbors.h5; equal neighbors give equal bytes."""
        with hdf5.new_file(path) as file:
            file.create_dataset("rows", data=self.rows)
            longest = max((len(image_id.encode()) for image_id in self.image_ids), default=0)
            hdf5.write_texts(file, "image_id", self.image_ids, len(self.image_ids), longest)
            file.attrs["format_version"] = FORMAT_VERSION
            hdf5.write_attribute(file, "memory", self.memory)
            hdf5.write_attribute(file, "train", self.train)
            hdf5.write_attribute(file, "checksum", self.digest)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read neighbors.h5. Raises PipelineError for a missing, foreign or damaged file."""
        with hdf5.open_file(path, FORMAT_VERSION, "a file of neighbors", "retrieve") as file:
            memory, train = hdf5.read_attribute(file, "memory"), hdf5.read_attribute(file, "train")
            image_ids = list(hdf5.read_texts(file, "image_id"))
            neighbors = cls(memory, train, image_ids, hdf5.read_array(file, "rows"))
            if hdf5.read_attribute(file, "checksum") != neighbors.digest:
                raise ValueError("its checksum is wrong")
        return neighbors

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over all of it."""
        total = hashlib.sha256(canonical_json([self.memory, self.train, *self.image_ids]).encode())
        total.update(np.ascontiguousarray(self.rows).data)
        return total.hexdigest()


@dataclass(frozen=True)
class Retriever:
    """What people said of the neighbors of images whose neighbors were found."""

    memory: Memory
    neighbors: Neighbors

    def __post_init__(self) -> None:
        if self.neighbors.memory != self.memory.digest:
            raise PipelineError(
                "The neighbors were found with another memory than the present one. Fix: run `dvc repro`."
            )

    def similar(self, image_ids: Sequence[str]) -> list[SimilarCaptions]:
        """For each image, the captions of each of its neighbors, the nearest first."""
        return [self.memory.similar(rows) for rows in self.neighbors.lookup(image_ids)]
