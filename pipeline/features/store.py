"""The HDF5 cache of image features, written in one go from finished blocks (`encoding/blocks.py`), and read.

HDF5 has no checksums of text. Its checksum of a chunk is 0 for zeros, and does not say whose chunk it is: a
row that was zeroed together with it, or exchanged with another, passes. So the store has a digest of each row
and a checksum of everything else.

N: images, P: tokens of an image, D_v: width of the encoder.
"""

import hashlib
import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline.captions import ImageRecord
from pipeline.errors import PipelineError
from pipeline.files.atomic import replace_file
from pipeline.files.disk_errors import explain_read_errors
from pipeline.files.hdf5_text import FORMAT, TextWriter, read_fact, read_texts, write_fact
from pipeline.files.json_files import canonical_json

FORMAT_VERSION = 3
_DIGEST_LENGTH = 64  # SHA-256 in hex
Features = NDArray[np.float16]


class Images(Protocol):
    """Images that can be counted and iterated over more than once, without being held in memory."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[ImageRecord]: ...


def row_digest(sha256: str, features: Features) -> str:
    """SHA-256 (hex) over an image's own digest and its features `[P, D_v]`."""
    total = hashlib.sha256(sha256.encode())
    total.update(np.ascontiguousarray(features).data)
    return total.hexdigest()


class _FactsChecksum:
    """SHA-256 over what a store says of its encoder and of its images, one image after the other."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._total = hashlib.sha256(canonical_json(spec).encode())

    def add(self, image_id: str, sha256: str, digest: str) -> None:
        """Add the next image: its id, its file's digest, its row's digest."""
        self._total.update(canonical_json([image_id, sha256, digest]).encode())

    def value(self) -> str:
        """The checksum (hex) of what was added so far."""
        return self._total.hexdigest()


def write_store(path: Path, images: Images, spec: dict[str, Any], features: Iterable[Features]) -> None:
    """Write features.h5: one row per image, in the order of `images`, and the digest of each.

    One chunk per image and no compression (it makes random reads tens of times slower and saves 8 %);
    no time stamps, so equal content gives equal bytes. Raises ValueError for more rows or fewer than images.
    """
    if not images:
        raise PipelineError(f"there are no images to write {path} of; run `dvc repro prepare`.")
    shape = (len(images), spec["num_tokens"], spec["width"])
    checksum = _FactsChecksum(spec)
    with replace_file(path) as temporary, h5py.File(temporary, "w", libver=FORMAT) as file:
        rows = file.create_dataset("features", shape, np.float16, chunks=(1, *shape[1:]), fletcher32=True)
        digests = TextWriter(file, "digest", len(images), _DIGEST_LENGTH)
        for index, (image, values) in enumerate(zip(images, features, strict=True)):
            rows[index] = values
            digest = row_digest(image.sha256, values)
            digests.add(digest)
            checksum.add(image.image_id, image.sha256, digest)
        digests.flush()
        for name in ("image_id", "sha256"):
            length = max(len(getattr(image, name).encode()) for image in images)
            column = TextWriter(file, name, len(images), length or 1)
            for image in images:
                column.add(getattr(image, name))
            column.flush()
        file.attrs["format_version"] = FORMAT_VERSION
        write_fact(file, "encoder", canonical_json(spec))
        # HDF5 keeps no checksum of contiguous data.
        write_fact(file, "checksum", checksum.value())


class FeatureStore:
    """Features read back from features.h5; what is read is what was written, or a PipelineError.

    Use as a context manager.

    Attributes:
        path: of the file.
        spec: every fact of the encoder that the features depend on.
        image_ids: of all images, sorted.
        sha256: of the files of all images, in the same order.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            raise PipelineError(f"{path} does not exist; run `dvc repro encode`.")
        try:
            with explain_read_errors(path):
                # One-image chunks gain nothing from the chunk cache, which costs a copy each.
                self._file = h5py.File(path, "r", rdcc_nbytes=0)
        except OSError as error:
            raise self._unreadable(error) from error
        try:
            with explain_read_errors(path):
                self._read_facts()
        # What h5py raises for damaged metadata has many types.
        except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
            self._file.close()
            raise self._unreadable(error) from error
        except BaseException:
            self._file.close()
            raise

    def _read_facts(self) -> None:
        version = self._file.attrs["format_version"]
        if version != FORMAT_VERSION:
            raise PipelineError(
                f"{self.path} has format version {version}, expected {FORMAT_VERSION}; "
                "run `dvc repro encode`."
            )
        self._rows = self._file["features"]
        size = self.path.stat().st_size
        self.image_ids = read_texts(self._file, "image_id", size)
        self.sha256 = read_texts(self._file, "sha256", size)
        self._digests = read_texts(self._file, "digest", size)
        self.spec: dict[str, Any] = json.loads(read_fact(self._file, "encoder"))
        shape = (len(self.image_ids), self.spec["num_tokens"], self.spec["width"])
        chunks = self._rows.id.get_num_chunks()
        checksum = _FactsChecksum(self.spec)
        for image in zip(self.image_ids, self.sha256, self._digests, strict=True):
            checksum.add(*image)
        if checksum.value() != read_fact(self._file, "checksum"):
            raise ValueError("the checksum of its ids and facts is wrong")
        if (self._rows.shape, self._rows.dtype) != (shape, np.float16) or chunks != len(self.image_ids):
            # HDF5 reads chunks that were never written as zeros, without an error.
            raise PipelineError(
                f"{self.path} is incomplete: {chunks} rows of shape {self._rows.shape}, expected "
                f"{shape}; run `dvc repro encode`."
            )

    def _unreadable(self, error: Exception) -> PipelineError:
        return PipelineError(
            f"{self.path} is not a feature store ({error}). Pass a file written by the encode stage, such as "
            "data/features.h5; if that is damaged, delete it and run `dvc repro encode`."
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a context manager does so at its end."""
        self._file.close()

    def __len__(self) -> int:
        return len(self.image_ids)

    def read(self, image_ids: Sequence[str]) -> Features:
        """Features `[n, P, D_v]` of `n` images, in the order of `image_ids`."""
        values = np.empty((len(image_ids), *self._rows.shape[1:]), np.float16)
        for index, image_id in enumerate(image_ids):
            self._read_row(self._row(image_id), values[index])
        return values

    def rows(self) -> Iterator[tuple[str, str, Features | PipelineError]]:
        """Yield `(image id, SHA-256, features [P, D_v])` row by row; an error in place of damaged ones."""
        values = np.empty(self._rows.shape[1:], np.float16)
        for row, (image_id, sha256) in enumerate(zip(self.image_ids, self.sha256, strict=True)):
            try:
                self._read_row(row, values)
            except PipelineError as error:
                yield image_id, sha256, error
            else:
                yield image_id, sha256, values

    def row_digests(self, image_ids: Sequence[str]) -> list[str]:
        """SHA-256 (hex) of each image's features together with its file's digest, in the order of the ids.

        `read` gives nothing else, so what follows from the features follows from these.
        """
        return [self._digests[self._row(image_id)] for image_id in image_ids]

    def _row(self, image_id: str) -> int:
        # They are sorted, as images.jsonl is; a dictionary of a million ids would take 150 MB.
        row = bisect_left(self.image_ids, image_id)
        if row == len(self) or self.image_ids[row] != image_id:
            raise PipelineError(f"{self.path} has no image {image_id}; run `dvc repro encode`.")
        return row

    def _read_row(self, row: int, values: Features) -> None:
        try:
            with explain_read_errors(self.path):
                # Row by row: h5py's selection of a list of rows is tens of times slower.
                self._rows.read_direct(values, np.s_[row])
            if row_digest(self.sha256[row], values) != self._digests[row]:
                raise ValueError("its digest is wrong")
        except (OSError, ValueError) as error:
            raise PipelineError(
                f"{self.path} is damaged at image {self.image_ids[row]} ({error}); delete the file and run "
                "`dvc repro encode`."
            ) from error
