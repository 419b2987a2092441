"""Store text in HDF5 files as fixed-length strings.

HDF5 stores strings of varying length in a heap without a checksum, and a damaged heap can make the library
search it for ever. Strings of fixed length are stored like numbers. From format version 1.10 on, HDF5's
structures have checksums.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline.files.batched import batched

FORMAT = ("v110", "v110")
_SLICE = 1024  # texts that are written at a time


class TextColumn:
    """Texts in one array, decoded on access; a list takes several times the memory."""

    def __init__(self, values: NDArray[np.bytes_]) -> None:
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: int) -> str:
        text: str = self._values[index].decode()
        return text

    def __iter__(self) -> Iterator[str]:
        return (value.decode() for value in self._values)


def write_texts(file: Any, name: str, texts: Iterable[str], count: int, length: int) -> None:
    """Write a dataset of `count` texts of at most `length` bytes, none of which may end in NUL."""
    dtype = h5py.string_dtype("utf-8", length or 1)
    column = file.create_dataset(name, count, dtype)
    start = 0
    for batch in batched(texts, _SLICE):
        column[start : start + len(batch)] = np.array([text.encode() for text in batch], dtype)
        start += len(batch)


def read_texts(file: Any, name: str, file_size: int) -> TextColumn:
    """Read a dataset of texts. Raises ValueError, or h5py's errors, for anything else.

    A dataset with more bytes than the file has would be read for ever.
    """
    texts = file[name]
    if texts.dtype.kind != "S" or texts.nbytes > file_size:
        raise ValueError(f"{name} is not a list of {len(texts)} texts")
    return TextColumn(texts[:])


def write_attribute(file: Any, name: str, text: str) -> None:
    """Write a text as an attribute of the file."""
    file.attrs[name] = np.bytes_(text.encode())


def read_attribute(file: Any, name: str) -> str:
    """Read an attribute that is text. Raises ValueError, or h5py's errors, for anything else."""
    if file.attrs.get_id(name).dtype.kind != "S":
        raise ValueError(f"{name} is not text")
    text: str = file.attrs[name].decode()
    return text
