"""HDF5 files that are written whole and read whole, and text in them as fixed-length strings.

HDF5 stores strings of varying length in a heap without a checksum, and a damaged heap can make the library
search it for ever. Strings of fixed length are stored like numbers. From format version 1.10 on, HDF5's
structures have checksums.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PipelineError
from pipeline.files.batched import batched
from pipeline.files.disk_errors import explain_read_errors
from pipeline.files.json_files import write_atomic

FORMAT = ("v110", "v110")
_SLICE = 1024  # texts that are written at a time


@contextmanager
def new_file(path: Path) -> Iterator[Any]:
    """Yield a new HDF5 file that becomes `path` when the block ends without an exception.

    It is made in memory and written in one atomic step; on a full disk HDF5 would print its own errors when
    it closes its objects.
    """
    with h5py.File(path.name, "w", driver="core", backing_store=False, libver=FORMAT) as file:
        yield file
        file.flush()
        content: bytes = file.id.get_file_image()
    write_atomic(path, content)


@contextmanager
def open_file(path: Path, version: int, kind: str, stage: str) -> Iterator[Any]:
    """Open a file of a format version, such as "a file of neighbors", that a stage wrote.

    Raises PipelineError for a missing file and for another version; an error in the block means that the file
    is foreign or damaged, unless the system could not read it.
    """
    if not path.exists():
        raise PipelineError(f"{path} does not exist. Fix: run `dvc repro {stage}`.")
    try:
        # Chunks hold a row, or are read once: the chunk cache would cost a copy each.
        with explain_read_errors(path), h5py.File(path, "r", rdcc_nbytes=0) as file:
            if file.attrs["format_version"] != version:
                found = file.attrs["format_version"]
                raise PipelineError(
                    f"{path} has format version {found}; {kind} of this project has {version}. "
                    f"Fix: pass a file that the {stage} stage wrote; if this is one, run `dvc repro {stage}`."
                )
            yield file
    # What h5py raises for damaged metadata has many types.
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        raise PipelineError(
            f"{path} is not {kind} ({error}). Fix: pass a file that the {stage} stage wrote; if it wrote "
            f"this one, the file is damaged: delete it and run `dvc repro {stage}`."
        ) from error


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


def find_text(texts: Sequence[str] | TextColumn, text: str) -> int | None:
    """Return the place of a text in sorted texts; a dictionary of a million would take 150 MB."""
    place = bisect_left(texts, text)
    return place if place < len(texts) and texts[place] == text else None


def write_texts(file: Any, name: str, texts: Iterable[str], count: int, length: int) -> None:
    """Write a dataset of `count` texts of at most `length` bytes, none of which may end in NUL."""
    dtype = h5py.string_dtype("utf-8", length or 1)
    column = file.create_dataset(name, count, dtype)
    start = 0
    for batch in batched(texts, _SLICE):
        column[start : start + len(batch)] = np.array([text.encode() for text in batch], dtype)
        start += len(batch)


def read_texts(file: Any, name: str) -> TextColumn:
    """Read a dataset of texts. Raises ValueError, or h5py's errors, for anything else."""
    if file[name].dtype.kind != "S":
        raise ValueError(f"{name} is not a list of {len(file[name])} texts")
    return TextColumn(read_array(file, name))


def read_array(file: Any, name: str) -> NDArray[Any]:
    """Read a dataset of the file. Raises ValueError, or h5py's errors, for anything else.

    A dataset with more bytes than the file has would be read for ever.
    """
    if file[name].nbytes > Path(file.filename).stat().st_size:
        raise ValueError(f"{name} claims more bytes than the file has")
    values: NDArray[Any] = file[name][:]
    return values


def write_attribute(file: Any, name: str, text: str) -> None:
    """Write a text as an attribute of the file."""
    file.attrs[name] = np.bytes_(text.encode())


def read_attribute(file: Any, name: str) -> str:
    """Read an attribute that is text. Raises ValueError, or h5py's errors, for anything else."""
    if file.attrs.get_id(name).dtype.kind != "S":
        raise ValueError(f"{name} is not text")
    text: str = file.attrs[name].decode()
    return text
