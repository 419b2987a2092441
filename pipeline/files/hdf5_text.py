"""Text in HDF5 files as fixed-length strings, and the version of the format that our files have.

HDF5 keeps strings of varying length in a heap without a checksum, and a damaged heap can make the library
search it for ever. Strings of fixed length are stored like numbers; and from version 1.10 of the format on,
HDF5's own structures have checksums.
"""

from collections.abc import Iterator, Sequence
from typing import Any, overload

import h5py
import numpy as np
from numpy.typing import NDArray

FORMAT = ("v110", "v110")
_SLICE = 1024  # texts written at a time


class TextColumn(Sequence[str]):
    """Texts in one piece of memory, decoded as they are asked for; a list takes several times that."""

    def __init__(self, values: NDArray[np.bytes_]) -> None:
        self._values = values
        for value in values:
            value.decode()

    def __len__(self) -> int:
        return len(self._values)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [value.decode() for value in self._values[index]]
        text: str = self._values[index].decode()
        return text

    def __iter__(self) -> Iterator[str]:
        # The inherited one would look up every index, and end at an IndexError.
        return (value.decode() for value in self._values)


class TextWriter:
    """A dataset of `count` texts of at most `length` bytes, none of which may end in NUL.

    They are added one after the other and written in slices; `flush` writes the last slice.
    """

    def __init__(self, file: Any, name: str, count: int, length: int) -> None:
        self._dtype = h5py.string_dtype("utf-8", length)
        self._column = file.create_dataset(name, count, self._dtype)
        self._written = 0
        self._waiting: list[bytes] = []

    def add(self, text: str) -> None:
        """Take the next text."""
        self._waiting.append(text.encode())
        if len(self._waiting) == _SLICE:
            self.flush()

    def flush(self) -> None:
        """Write what was added since."""
        end = self._written + len(self._waiting)
        self._column[self._written : end] = np.array(self._waiting, self._dtype)
        self._written = end
        self._waiting.clear()


def write_texts(file: Any, name: str, texts: Sequence[str]) -> None:
    """Write a dataset of texts, none of which may end in NUL."""
    length = max((len(text.encode()) for text in texts), default=0) or 1
    column = TextWriter(file, name, len(texts), length)
    for text in texts:
        column.add(text)
    column.flush()


def read_texts(file: Any, name: str, file_size: int) -> TextColumn:
    """Read what `write_texts` wrote. Raises what h5py does, or ValueError, for anything else.

    A dataset that claims more bytes than the file has would be read for ever.
    """
    texts = file[name]
    if texts.dtype.kind != "S" or texts.nbytes > file_size:
        raise ValueError(f"{name} is no list of {len(texts)} texts")
    return TextColumn(texts[:])


def write_fact(file: Any, name: str, text: str) -> None:
    """Write a text as an attribute of the file."""
    file.attrs[name] = np.bytes_(text.encode())


def read_fact(file: Any, name: str) -> str:
    """Read what `write_fact` wrote. Raises what h5py does, or ValueError, for anything else."""
    if file.attrs.get_id(name).dtype.kind != "S":
        raise ValueError(f"{name} is no text")
    text: str = file.attrs[name].decode()
    return text
