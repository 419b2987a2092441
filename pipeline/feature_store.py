"""The HDF5 cache of image features: each image is encoded once, whatever happens in between.

Encoding writes blocks of finished images into a scratch folder that belongs to one encoder (its
fingerprint names it), each block atomically. The store is then put together from the blocks in image id
order, in one go. So a killed run loses at most one block, a changed dataset encodes only what is new, and
equal inputs give equal bytes however often the run was interrupted.

N: images, P: tokens of an image, D_v: width of the encoder.
"""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from pipeline.captions import ImageRecord
from pipeline.errors import PipelineError
from pipeline.feature_checksums import block_metadata, check_block, facts_checksum, images_of_block
from pipeline.hdf5_text import FORMAT, read_fact, read_texts, write_fact, write_texts
from pipeline.partial_work import replace_file
from pipeline.records import canonical_json, write_atomic

logger = logging.getLogger(__name__)

FORMAT_VERSION = 2
Features = NDArray[np.float16]


class FeatureBlocks:
    """Finished features in a scratch folder, found by the image's SHA-256.

    Each block is a safetensors file with `features` `[n, P, D_v]` and, as metadata, the images' digests and
    a checksum of both.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rows: dict[str, tuple[Path, int]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.glob("*.safetensors")):
            try:
                self._index(path)
            except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
                logger.warning("%s is damaged (%s); its images are encoded again", path, error)
                path.unlink()

    def __contains__(self, sha256: str) -> bool:
        return sha256 in self._rows

    def add(self, sha256s: Sequence[str], features: Features) -> None:
        """Keep the features `[n, P, D_v]` of `n` images."""
        path = self._folder / f"{sha256s[0]}.safetensors"
        write_atomic(path, save({"features": features}, block_metadata(self._folder.name, sha256s, features)))
        self._index(path)

    def read(self, sha256s: Sequence[str]) -> Iterator[Features]:
        """Yield the features `[P, D_v]` of each image, in order; neighbours in a block share one read.

        Raises PipelineError for a block that was damaged since it was written, and removes it.
        """
        loaded: Path | None = None
        block: Features | None = None
        for sha256 in sha256s:
            path, row = self._rows[sha256]
            if block is None or path != loaded:
                block = self._load(path)
                loaded = path
            yield block[row]

    def _load(self, path: Path) -> Features:
        try:
            with safe_open(path, framework="numpy") as file:
                block: Features = file.get_tensor("features")
                check_block(file.metadata(), block)
        except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
            path.unlink(missing_ok=True)
            raise PipelineError(
                f"{path} was damaged ({error}) and has been removed; run the command again: it encodes the "
                "images of that block anew."
            ) from error
        return block

    def _index(self, path: Path) -> None:
        with safe_open(path, framework="numpy") as file:
            for row, sha256 in enumerate(images_of_block(self._folder.name, file.metadata())):
                self._rows[sha256] = (path, row)


def to_float16(features: NDArray[np.float32], image_ids: Sequence[str]) -> Features:
    """Features `[n, P, D_v]` as stored; PipelineError names an image whose values do not fit float16."""
    with np.errstate(over="ignore"):
        small = features.astype(np.float16)
    for image_id, values in zip(image_ids, small, strict=True):
        if not np.isfinite(values).all():
            raise PipelineError(
                f"the features of {image_id} are not finite in float16; check the image and the encoder."
            )
    return small


def write_store(
    path: Path, images: Sequence[ImageRecord], spec: dict[str, Any], features: Iterable[Features]
) -> None:
    """Write features.h5: one row an image, in the order of `images`.

    One chunk an image and no compression (it makes random reads tens of times slower and saves 8 %);
    fletcher32 finds flipped bits; no time stamps, so equal content gives equal bytes.
    """
    if not images:
        raise PipelineError(f"there are no images to write {path} of; run `dvc repro prepare`.")
    shape = (len(images), spec["num_tokens"], spec["width"])
    ids, digests = [i.image_id for i in images], [i.sha256 for i in images]
    with replace_file(path) as temporary, h5py.File(temporary, "w", libver=FORMAT) as file:
        rows = file.create_dataset("features", shape, np.float16, chunks=(1, *shape[1:]), fletcher32=True)
        for index, values in enumerate(features):
            rows[index] = values
        write_texts(file, "image_id", ids)
        write_texts(file, "sha256", digests)
        file.attrs["format_version"] = FORMAT_VERSION
        write_fact(file, "encoder", canonical_json(spec))
        # Of contiguous data HDF5 keeps no checksum.
        write_fact(file, "checksum", facts_checksum(spec, ids, digests))


class FeatureStore:
    """Features read back from features.h5, checked against what the reader expects.

    Use as a context manager. Reading an image whose bytes were damaged raises PipelineError.
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
        self._row_of = {image_id: row for row, image_id in enumerate(self.image_ids)}

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
            self.spec: dict[str, Any] = json.loads(read_fact(self._file, "encoder"))
            expected = (len(self.image_ids), self.spec["num_tokens"], self.spec["width"])
            chunks = self._rows.id.get_num_chunks()
            checksum = facts_checksum(self.spec, self.image_ids, self.sha256)
            if checksum != read_fact(self._file, "checksum"):
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
            f"{self._path} is no readable feature store ({error}); delete it and run `dvc repro encode`."
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
            row = self._row(image_id)
            try:
                # Row by row: h5py's selection of a list of rows is tens of times slower.
                self._rows.read_direct(values, np.s_[row], np.s_[index])
            except OSError as error:
                raise PipelineError(
                    f"{self._path} is damaged at image {image_id} ({error}); delete the file and run "
                    "`dvc repro encode`."
                ) from error
        return values

    def digest_of(self, image_id: str) -> str:
        """SHA-256 (hex) of the file that an image's features were made from."""
        return self.sha256[self._row(image_id)]

    def _row(self, image_id: str) -> int:
        row = self._row_of.get(image_id)
        if row is None:
            raise PipelineError(f"{self._path} has no image {image_id}; run `dvc repro encode`.")
        return row

    def require_images(self, sha256: Mapping[str, str], wanted_by: str) -> None:
        """PipelineError naming the first image whose features are not of the bytes with that digest."""
        for image_id, wanted in sha256.items():
            found = self.digest_of(image_id)
            if found != wanted:
                raise PipelineError(
                    f"{self._path} has features of {image_id} from other bytes (sha256 {found:.12}) than "
                    f"{wanted_by} began with ({wanted:.12}); run `dvc repro`."
                )

    def require_encoder(self, spec: dict[str, Any], wanted_by: str) -> None:
        """PipelineError naming the first fact in which the store's encoder differs from `spec`."""
        for key in sorted(spec.keys() | self.spec.keys()):
            if spec.get(key) != self.spec.get(key):
                raise PipelineError(
                    f"{self._path} was made with encoder {key} {self.spec.get(key)!r}, but {wanted_by} "
                    f"needs {spec.get(key)!r}; run `dvc repro`."
                )


def encode_missing(
    blocks: FeatureBlocks,
    images: Sequence[ImageRecord],
    encode: Callable[[Sequence[ImageRecord]], Iterator[tuple[list[ImageRecord], NDArray[np.float32]]]],
) -> int:
    """Encode the images that `blocks` lack; returns how many those were.

    `encode` yields `(images, features [n, P, D_v])` batch by batch.
    """
    wanted = {image.sha256: image for image in images if image.sha256 not in blocks}
    for batch, features in encode(list(wanted.values())):
        blocks.add([i.sha256 for i in batch], to_float16(features, [i.image_id for i in batch]))
    return len(wanted)
