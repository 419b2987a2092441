"""A column of texts of an HDF5 file in one piece of memory: a list of strings takes several times that."""

from array import array
from collections.abc import Iterator, Sequence
from typing import Any, overload

_SLICE = 8192  # texts read at a time


class TextColumn(Sequence[str]):
    """The texts of a one-dimensional HDF5 dataset, decoded as they are asked for.

    Raises UnicodeDecodeError, a ValueError, for bytes that are no UTF-8, and TypeError for what is no text.
    """

    def __init__(self, dataset: Any) -> None:
        self._bytes = bytearray()
        self._ends = array("Q", [0])
        for start in range(0, len(dataset), _SLICE):
            for text in dataset[start : start + _SLICE]:
                text.decode()
                self._bytes += text
                self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        return self._bytes[self._ends[place] : self._ends[place + 1]].decode()

    def __iter__(self) -> Iterator[str]:
        # The inherited one would end at an IndexError, which costs more than the texts.
        return (self[i] for i in range(len(self)))
