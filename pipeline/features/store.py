"""The HDF5 store of image features: format, writer and reader.

HDF5 has no checksums of text. Its checksum of a chunk is 0 for zeros, and does not say which chunk it belongs
to: a row that was zeroed with its checksum, or exchanged with another, passes. So the store has a digest of
each row and a checksum of everything else.

N: images, P: tokens of an image, D_v: width of the encoder.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline.captions import ImageList, ImageRecord
from pipeline.errors import PipelineError
from pipeline.files import hdf5
from pipeline.files.atomic import replace_file
from pipeline.files.differences import differences
from pipeline.files.disk_errors import explain_read_errors
from pipeline.files.json_files import canonical_json

FORMAT_VERSION = 3
_DIGEST_LENGTH = 64  # SHA-256 in hex
Features = NDArray[np.float16]


def row_digest(sha256: str, features: Features) -> str:
    """SHA-256 (hex) over an image file's digest and the image's features `[P, D_v]`."""
    total = hashlib.sha256(sha256.encode())
    total.update(np.ascontiguousarray(features).data)
    return total.hexdigest()


def _row_bytes(image_id: str, sha256: str, digest: str) -> bytes:
    """What the checksum covers of each image."""
    return canonical_json([image_id, sha256, digest]).encode()


def write_store(
    path: Path, images: ImageList | Sequence[ImageRecord], spec: dict[str, Any], features: Iterable[Features]
) -> None:
    """Write features.h5: the features of each image, in the order of `images`, and the digest of each row.

    One chunk per image and no compression, which would make random reads tens of times slower and save 8 %.
    No time stamps, so equal content gives equal bytes. Raises ValueError unless there is a row per image.
    """
    if not images:
        raise PipelineError(f"There are no images to write to {path}. Fix: run `dvc repro prepare`.")
    count, shape = len(images), (spec["num_tokens"], spec["width"])
    checksum = hashlib.sha256(canonical_json(spec).encode())
    with replace_file(path) as temporary, h5py.File(temporary, "w", libver=hdf5.FORMAT) as file:
        rows = file.create_dataset(
            "features", (count, *shape), np.float16, chunks=(1, *shape), fletcher32=True
        )

        def write_rows() -> Iterator[str]:
            for index, (image, values) in enumerate(zip(images, features, strict=True)):
                rows[index] = values
                digest = row_digest(image.sha256, values)
                checksum.update(_row_bytes(image.image_id, image.sha256, digest))
                yield digest

        hdf5.write_texts(file, "digest", write_rows(), count, _DIGEST_LENGTH)
        for name in ("image_id", "sha256"):
            length = max(len(getattr(image, name).encode()) for image in images)
            hdf5.write_texts(file, name, (getattr(image, name) for image in images), count, length)
        file.attrs["format_version"] = FORMAT_VERSION
        hdf5.write_attribute(file, "encoder", canonical_json(spec))
        # HDF5 keeps no checksum of contiguous data.
        hdf5.write_attribute(file, "checksum", checksum.hexdigest())


class FeatureStore(AbstractContextManager["FeatureStore", None]):
    """Read features.h5: features are those that were written, or there is a PipelineError.

    Use it as a context manager.

    Attributes:
        path: the file.
        spec: the encoder: everything that the features depend on.
        image_ids: ids of all images, sorted.
        sha256: digests (hex) of their files, in the same order.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with ExitStack() as stack:
            file = stack.enter_context(hdf5.open_file(path, FORMAT_VERSION, "a feature store", "encode"))
            self._read_header(file)
            self._opened = stack.pop_all()

    def _read_header(self, file: h5py.File) -> None:
        self._rows = file["features"]
        self.image_ids = hdf5.read_texts(file, "image_id")
        self.sha256 = hdf5.read_texts(file, "sha256")
        self._digests = hdf5.read_texts(file, "digest")
        self.spec: dict[str, Any] = json.loads(hdf5.read_attribute(file, "encoder"))
        shape = (len(self.image_ids), self.spec["num_tokens"], self.spec["width"])
        chunks = self._rows.id.get_num_chunks()
        checksum = hashlib.sha256(canonical_json(self.spec).encode())
        for row in zip(self.image_ids, self.sha256, self._digests, strict=True):
            checksum.update(_row_bytes(*row))
        if checksum.hexdigest() != hdf5.read_attribute(file, "checksum"):
            raise ValueError("the checksum of its ids and its encoder is wrong")
        if (self._rows.shape, self._rows.dtype) != (shape, np.float16) or chunks != len(self.image_ids):
            # HDF5 reads chunks that were never written as zeros, without an error.
            raise PipelineError(
                f"{self.path} is incomplete: {chunks} rows of shape {self._rows.shape}, expected {shape}. "
                "Fix: run `dvc repro encode`."
            )

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def __len__(self) -> int:
        return len(self.image_ids)

    def read(self, image_ids: Sequence[str]) -> Features:
        """Features `[n, P, D_v]` of `n` images, in the order of `image_ids`."""
        values = np.empty((len(image_ids), *self._rows.shape[1:]), np.float16)
        for index, image_id in enumerate(image_ids):
            self._read_row(self._row(image_id), values[index])
        return values

    def rows(self) -> Iterator[tuple[str, Features | PipelineError]]:
        """Yield the image id of each row and its features `[P, D_v]`, or an error for a damaged row."""
        values = np.empty(self._rows.shape[1:], np.float16)
        for row, image_id in enumerate(self.image_ids):
            try:
                self._read_row(row, values)
            except PipelineError as error:
                yield image_id, error
            else:
                yield image_id, values

    def digest(self, image_ids: Iterable[str]) -> str:
        """SHA-256 (hex) over the row digests of images, in order, which stands for their features and files.

        No features are read: `read` gives no row that has another digest. Raises PipelineError for an image
        that is not in the store.
        """
        total = hashlib.sha256()
        for image_id in image_ids:
            total.update(self._digests[self._row(image_id)].encode())
        return total.hexdigest()

    def require_encoder(self, spec: Mapping[str, Any], wanted_by: str) -> None:
        """Raise PipelineError for the first setting in which the store's encoder differs from `spec`."""
        for name, actual, expected in differences(self.spec, spec):
            raise PipelineError(
                f"{self.path} was made with encoder {name} {actual!r}, but {wanted_by} needs {expected!r}. "
                "Fix: run `dvc repro`."
            )

    def file_digest(self, image_id: str) -> str:
        """SHA-256 (hex) of an image's file."""
        return self.sha256[self._row(image_id)]

    def _row(self, image_id: str) -> int:
        row = hdf5.find_text(self.image_ids, image_id)
        if row is None:
            raise PipelineError(f"{self.path} has no image {image_id}. Fix: run `dvc repro encode`.")
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
                f"{self.path} is damaged at image {self.image_ids[row]} ({error}). "
                "Fix: delete the file and run `dvc repro encode`."
            ) from error
