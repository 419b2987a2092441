"""Answers of a model, kept batch by batch as they are made: what a killed run had finished, the next one has.

The rows of one piece of work lie in a folder that is named after everything they follow from. Each batch is
a file of its own, written atomically and with a checksum, named after the number of its first row.
"""

import logging
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from pipeline.disk import require_readable
from pipeline.errors import PipelineError
from pipeline.records import JsonObject, digest, read_json, write_json

logger = logging.getLogger(__name__)


T = TypeVar("T")


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield `items` in lists of `size`, the last one maybe shorter."""
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch


class KeptRows:
    """The rows of one piece of work that are finished, from the first on without a gap."""

    def __init__(self, scratch: Path, facts: JsonObject) -> None:
        """`facts`: everything that the rows follow from."""
        self._folder = scratch / digest(facts)[:32]
        self.rows: list[JsonObject] = []
        while (batch := read_batch(self._path(len(self.rows)))) is not None:
            self.rows += batch

    def add(self, rows: list[JsonObject]) -> None:
        """Keep the next rows."""
        path = self._path(len(self.rows))
        write_json(path, {"rows": rows, "sha256": _checksum(path, rows)})
        self.rows += rows

    def _path(self, first: int) -> Path:
        return self._folder / f"{first:08d}.json"


def read_batch(path: Path) -> list[JsonObject] | None:
    """The rows of one batch; None where there are none, or damaged ones, which are removed."""
    if not path.exists():
        return None
    require_readable(path)
    try:
        content: Any = read_json(path)
        rows: list[JsonObject] = content["rows"]
        if not rows or content["sha256"] != _checksum(path, rows):
            raise ValueError("its checksum is wrong")
    except (PipelineError, KeyError, TypeError, ValueError) as error:
        logger.warning("%s is damaged (%s); its answers are made again", path, error)
        path.unlink()
        return None
    return rows


def _checksum(path: Path, rows: list[JsonObject]) -> str:
    # With its place: the rows of other work, or of another batch, are as wrong as damaged ones.
    return digest([path.parent.name, path.name, rows])
