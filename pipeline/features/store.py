"""The HDF5 cache of image features, written in one go from finished blocks (`feature_blocks`), and read.

N: images, P: tokens of an image, D_v: width of the encoder.
"""

import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline.captions import ImageRecord
from pipeline.errors import PipelineError
from pipeline.features.checksums import FactsChecksum, row_digest
from pipeline.files.atomic import replace_file
from pipeline.files.differences import differences
from pipeline.files.hdf5_text import FORMAT, TextWriter, read_fact, read_texts, write_fact, write_texts
from pipeline.files.json_files import canonical_json

FORMAT_VERSION = 3
_DIGEST_LENGTH = 64  # SHA-256 in hex
Features = NDArray[np.float16]


class Images(Protocol):
    """Images that can be counted and gone through more than once, without being held."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[ImageRecord]: ...


@dataclass(frozen=True)
class _Column:
    """One attribute of all images."""

    images: Images
    name: str

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[str]:
        return (getattr(image, self.name) for image in self.images)


def write_store(path: Path, images: Images, spec: dict[str, Any], features: Iterable[Features]) -> None:
    """Write features.h5: one row an image, in the order of `images`, and the digest of each.

    One chunk an image and no compression (it makes random reads tens of times slower and saves 8 %);
    no time stamps, so equal content gives equal bytes. Raises ValueError for more rows or fewer than images.
    """
    if not images:
        raise PipelineError(f"there are no images to write {path} of; run `dvc repro prepare`.")
    shape = (len(images), spec["num_tokens"], spec["width"])
    checksum = FactsChecksum(spec)
    with replace_file(path) as temporary, h5py.File(temporary, "w", libver=FORMAT) as file:
        rows = file.create_dataset("features", shape, np.float16, chunks=(1, *shape[1:]), fletcher32=True)
        digests = TextWriter(file, "digest", len(images), _DIGEST_LENGTH)
        for index, (image, values) in enumerate(zip(images, features, strict=True)):
            rows[index] = values
            digest = row_digest(image.sha256, values)
            digests.add(digest)
            checksum.add(image.image_id, image.sha256, digest)
        digests.flush()
        write_texts(file, "image_id", _Column(images, "image_id"))
        write_texts(file, "sha256", _Column(images, "sha256"))
        file.attrs["format_version"] = FORMAT_VERSION
        write_fact(file, "encoder", canonical_json(spec))
        # Of contiguous data HDF5 keeps no checksum.
        write_fact(file, "checksum", checksum.value())


class FeatureStore:
    """Features read back from features.h5, checked against what the reader expects.

    Use as a context manager. Reading an image whose features are not those that were written for it raises
    PipelineError.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            # One-image chunks gain nothing from the chunk cache, which costs a copy each.
            self._file = h5py.File(path, "r", rdcc_nbytes=0)
        except FileNotFoundError as error:
            raise PipelineError(f"{path} does not exist; run `dvc repro encode`.") from error
        except OSError as error:
            raise self._unreadable(error) from error
        try:
            self._read_facts()
        except BaseException:
            self._file.close()
            raise

    def _read_facts(self) -> None:
        try:
            version = self._file.attrs["format_version"]
            if version != FORMAT_VERSION:
                raise PipelineError(
                    f"{self._path} has format version {version}, expected {FORMAT_VERSION}; "
                    "run `dvc repro encode`."
                )
            self._rows = self._file["features"]
            size = self._path.stat().st_size
            self.image_ids = read_texts(self._file, "image_id", size)
            self.sha256 = read_texts(self._file, "sha256", size)
            self._digests = read_texts(self._file, "digest", size)
            self.spec: dict[str, Any] = json.loads(read_fact(self._file, "encoder"))
            expected = (len(self.image_ids), self.spec["num_tokens"], self.spec["width"])
            chunks = self._rows.id.get_num_chunks()
            checksum = FactsChecksum(self.spec)
            for image in zip(self.image_ids, self.sha256, self._digests, strict=True):
                checksum.add(*image)
            if checksum.value() != read_fact(self._file, "checksum"):
                raise ValueError("the checksum of its ids and facts is wrong")
        # What h5py raises for damaged metadata has many types.
        except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
            raise self._unreadable(error) from error
        if (self._rows.shape, self._rows.dtype) != (expected, np.float16) or chunks != len(self.image_ids):
            # HDF5 reads chunks that were never written as zeros, without an error.
            raise PipelineError(
                f"{self._path} is incomplete: {chunks} rows of shape {self._rows.shape}, expected "
                f"{expected}; run `dvc repro encode`."
            )

    def _unreadable(self, error: Exception) -> PipelineError:
        return PipelineError(
            f"{self._path} is no readable feature store ({error}); give one, as data/features.h5 is. If that "
            "is damaged, delete it and run `dvc repro encode`."
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
        """Features `[n, P, D_v]` of `n` images, in the order asked for."""
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
        """SHA-256 (hex) of each image's features together with its file's digest, in the order asked for.

        `read` gives nothing else, so what follows from the features follows from these.
        """
        return [self._digests[self._row(image_id)] for image_id in image_ids]

    def _row(self, image_id: str) -> int:
        # They are sorted, as images.jsonl is; a dictionary of a million ids would take 150 MB.
        row = bisect_left(self.image_ids, image_id)
        if row == len(self) or self.image_ids[row] != image_id:
            raise PipelineError(f"{self._path} has no image {image_id}; run `dvc repro encode`.")
        return row

    def _read_row(self, row: int, values: Features) -> None:
        try:
            # Row by row: h5py's selection of a list of rows is tens of times slower.
            self._rows.read_direct(values, np.s_[row])
            if row_digest(self.sha256[row], values) != self._digests[row]:
                raise ValueError("its digest is wrong")
        except (OSError, ValueError) as error:
            raise PipelineError(
                f"{self._path} is damaged at image {self.image_ids[row]} ({error}); delete the file and run "
                "`dvc repro encode`."
            ) from error

    def require_encoder(self, spec: dict[str, Any], wanted_by: str) -> None:
        """PipelineError naming the first fact in which the store's encoder differs from `spec`."""
        for name, found, wanted in differences(self.spec, spec):
            raise PipelineError(
                f"{self._path} was made with encoder {name} {found!r}, but {wanted_by} needs {wanted!r}; run "
                "`dvc repro`."
            )
