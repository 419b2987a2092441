"""neighbors.h5: for each image, the train images that look most like it.

M: images, K: neighbors of each.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline.captions import SimilarCaptions
from pipeline.errors import PipelineError
from pipeline.files.disk_errors import explain_read_errors
from pipeline.files.hdf5_text import FORMAT, read_attribute, read_texts, write_attribute, write_texts
from pipeline.files.json_files import canonical_json, digest, write_atomic
from pipeline.retrieval.memory import Memory

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Neighbors:
    """The nearest train images of each image.

    Attributes:
        memory: the digest of the memory whose rows they are.
        train: the digest of the ids of its images, in order (`ids_digest`).
        image_ids: of the images that have neighbors here, sorted.
        rows: `[M, K]`, rows of the memory, the nearest first; -1 where there are too few.
    """

    memory: str
    train: str
    image_ids: Sequence[str]
    rows: NDArray[np.int32]

    def lookup(self, image_ids: Sequence[str]) -> NDArray[np.int32]:
        """The rows `[n, K]` of these images. Raises PipelineError for an image without neighbors."""
        places = [bisect_left(self.image_ids, image_id) for image_id in image_ids]
        for place, image_id in zip(places, image_ids, strict=True):
            if place == len(self.image_ids) or self.image_ids[place] != image_id:
                raise PipelineError(f"{image_id} has no neighbors. Fix: run `dvc repro retrieve`.")
        return self.rows[places]

    def write(self, path: Path) -> None:
        """Write neighbors.h5; equal neighbors give equal bytes."""
        # An in-memory file, so that the bytes are written in one atomic step.
        with h5py.File(path.name, "w", driver="core", backing_store=False, libver=FORMAT) as file:
            file.create_dataset("rows", data=self.rows)
            longest = max((len(image_id.encode()) for image_id in self.image_ids), default=0)
            write_texts(file, "image_id", self.image_ids, len(self.image_ids), longest)
            file.attrs["format_version"] = FORMAT_VERSION
            write_attribute(file, "memory", self.memory)
            write_attribute(file, "train", self.train)
            write_attribute(file, "checksum", self.digest)
            file.flush()
            content: bytes = file.id.get_file_image()
        write_atomic(path, content)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read neighbors.h5. Raises PipelineError for a missing, foreign or damaged file."""
        if not path.exists():
            raise PipelineError(f"{path} does not exist. Fix: run `dvc repro retrieve`.")
        try:
            with explain_read_errors(path), h5py.File(path, "r") as file:
                size = path.stat().st_size
                if file.attrs["format_version"] != FORMAT_VERSION or file["rows"].nbytes > size:
                    raise ValueError("it has another format")
                image_ids = list(read_texts(file, "image_id", size))
                neighbors = cls(
                    read_attribute(file, "memory"), read_attribute(file, "train"), image_ids, file["rows"][:]
                )
                if read_attribute(file, "checksum") != neighbors.digest:
                    raise ValueError("its checksum is wrong")
        # What h5py raises for damaged metadata has many types.
        except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
            raise PipelineError(
                f"{path} is not a file of neighbors ({error}). Fix: delete it and run `dvc repro retrieve`."
            ) from error
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


def ids_digest(image_ids: Sequence[str]) -> str:
    """SHA-256 (hex) over image ids in their order."""
    return digest(list(image_ids))
