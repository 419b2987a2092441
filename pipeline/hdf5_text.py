"""Text in HDF5 files as fixed-length strings, and the version of the format that our files have.

HDF5 keeps strings of varying length in a heap without a checksum, and a damaged heap can make the library
search it for ever. Strings of fixed length lie beside numbers; and from version 1.10 of the format on, HDF5's
own structures have checksums.
"""

from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np

FORMAT = ("v110", "v110")


def write_texts(file: Any, name: str, texts: Sequence[str]) -> None:
    """Write a dataset of texts, none of which may end in NUL."""
    content = [text.encode() for text in texts]
    length = max(map(len, content), default=0) or 1
    dtype = h5py.string_dtype("utf-8", length)
    file.create_dataset(name, data=np.array(content, dtype))


def read_texts(file: Any, name: str, file_size: int) -> list[str]:
    """Read what `write_texts` wrote. Raises what h5py does, or ValueError, for anything else.

    A dataset that claims more bytes than the file has would be read for ever.
    """
    texts = file[name]
    if texts.dtype.kind != "S" or texts.nbytes > file_size:
        raise ValueError(f"{name} is no list of {len(texts)} texts")
    return [text.decode() for text in texts[:]]


def write_fact(file: Any, name: str, text: str) -> None:
    """Write a text as an attribute of the file."""
    file.attrs[name] = np.bytes_(text.encode())


def read_fact(file: Any, name: str) -> str:
    """Read what `write_fact` wrote. Raises what h5py does, or ValueError, for anything else."""
    if file.attrs.get_id(name).dtype.kind != "S":
        raise ValueError(f"{name} is no text")
    text: str = file.attrs[name].decode()
    return text
