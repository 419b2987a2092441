"""Answers of a model, kept batch by batch: a run that was killed continues after its last finished batch.

The rows of one piece of work lie in a folder that is named after everything they follow from. Each batch is
a file, written atomically and with a checksum, named after the number of its first row.
"""

import json
import logging
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from pipeline.files.batched import batched
from pipeline.files.disk_errors import explain_read_errors
from pipeline.files.json_files import JsonObject, digest, write_json

logger = logging.getLogger(__name__)


class PredictionCache:
    """The rows of one piece of work, a fixed number of them, and which are finished."""

    def __init__(self, scratch: Path, facts: JsonObject, count: int) -> None:
        """`facts`: everything that the rows follow from; `count`: how many there will be."""
        self._folder = scratch / digest(facts)[:32]
        self._count = count
        self._rows: dict[int, JsonObject] = {}
        for path in sorted(self._folder.glob("*.json")):
            first = _first(path)
            # Batches of other sizes may overlap: the first of them counts.
            if first is not None and first not in self._rows and (batch := _read_batch(path)) is not None:
                self._rows |= dict(enumerate(batch, start=first))

    @property
    def rows(self) -> list[JsonObject]:
        """All rows in order. Raises KeyError while one is missing."""
        return [self._rows[place] for place in range(self._count)]

    @property
    def missing(self) -> int:
        """How many rows are not finished."""
        return sum(place not in self._rows for place in range(self._count))

    def has(self, places: Iterable[int]) -> bool:
        """Whether the rows at all these places are finished."""
        return all(place in self._rows for place in places)

    def gaps(self, size: int) -> Iterator[range]:
        """Yield the places of missing rows, in order, `size` neighbours at most at a time.

        They are the batches of a run that was never interrupted: batches end where kept ones begin.
        """
        places = [place for place in range(self._count) if place not in self._rows]
        for _, run in groupby(enumerate(places), key=lambda item: item[1] - item[0]):
            for batch in batched((place for _, place in run), size):
                yield range(batch[0], batch[-1] + 1)

    def add(self, first: int, rows: list[JsonObject]) -> None:
        """Keep the rows of one gap, which begins at `first`."""
        path = self._folder / f"{first:08d}.json"
        write_json(path, {"rows": rows, "sha256": _checksum(path, rows)})
        self._rows |= dict(enumerate(rows, start=first))


def _first(path: Path) -> int | None:
    """The number of a batch's first row; None for a file that is not a batch."""
    return int(path.stem) if path.stem.isdecimal() else None


def _read_batch(path: Path) -> list[JsonObject] | None:
    """Return the rows of one batch; None for a missing file, or a damaged one, which is removed.

    Raises PipelineError when the system refuses to read the file, which may be good and is left alone.
    """
    if not path.exists():
        return None
    with explain_read_errors(path):
        text = path.read_bytes()
    try:
        content: Any = json.loads(text)
        rows: list[JsonObject] = content["rows"]
        if not rows or content["sha256"] != _checksum(path, rows):
            raise ValueError("its checksum is wrong")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        logger.warning("%s is damaged (%s); its answers are made again", path, error)
        path.unlink()
        return None
    return rows


def _checksum(path: Path, rows: list[JsonObject]) -> str:
    # With its place: the rows of other work, or of another batch, are as wrong as damaged ones.
    return digest([path.parent.name, path.name, rows])
