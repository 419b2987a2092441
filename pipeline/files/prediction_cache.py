"""Predictions of a model, stored batch by batch: a killed run continues after its last finished batch.

The folder of a piece of work is named after everything that its rows follow from. Each batch is one file with
a checksum, written atomically and named after the number of its first row.
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
    """The rows of one piece of work: a fixed number, some of them finished."""

    def __init__(self, scratch: Path, provenance: JsonObject, count: int) -> None:
        """Read the finished rows; `provenance` is everything that the `count` rows follow from.

        Damaged batches are removed. Raises UnreadableError for one that the system refuses to read.
        """
        self._folder = scratch / digest(provenance)[:32]
        self._count = count
        self._rows: dict[int, JsonObject] = {}
        for path in sorted(self._folder.glob(f"{'[0-9]' * 8}.json")):
            first = int(path.stem)
            # Batches of different sizes may overlap: the first of them counts.
            if first not in self._rows:
                self._rows |= dict(enumerate(_read_batch(path), start=first))

    @property
    def rows(self) -> list[JsonObject]:
        """All rows in order. Raises KeyError while one is missing."""
        return [self._rows[place] for place in range(self._count)]

    @property
    def missing(self) -> int:
        """Number of rows that are not finished."""
        return sum(place not in self._rows for place in range(self._count))

    def has(self, places: Iterable[int]) -> bool:
        """Whether the rows at all these places are finished."""
        return all(place in self._rows for place in places)

    def gaps(self, size: int) -> Iterator[range]:
        """Yield the places of missing rows, in order, at most `size` neighbors at a time.

        They are the batches of a run that was never interrupted: batches end where finished ones begin.
        """
        places = [place for place in range(self._count) if place not in self._rows]
        for _, run in groupby(enumerate(places), key=lambda item: item[1] - item[0]):
            for batch in batched((place for _, place in run), size):
                yield range(batch[0], batch[-1] + 1)

    def add(self, first: int, rows: list[JsonObject]) -> None:
        """Store the rows of one gap, which begins at `first`."""
        path = self._folder / f"{first:08d}.json"
        write_json(path, {"rows": rows, "sha256": _checksum(path, rows)})
        self._rows |= dict(enumerate(rows, start=first))


def _read_batch(path: Path) -> list[JsonObject]:
    """The rows of one batch; a damaged batch is removed and has none."""
    with explain_read_errors(path):
        text = path.read_bytes()
    try:
        content: Any = json.loads(text)
        rows: list[JsonObject] = content["rows"]
        if not rows or content["sha256"] != _checksum(path, rows):
            raise ValueError("its checksum is wrong")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        logger.warning("%s is damaged (%s); its predictions are computed again", path, error)
        path.unlink()
        return []
    return rows


def _checksum(path: Path, rows: list[JsonObject]) -> str:
    # With the path: rows of other work, or of another batch, are as wrong as damaged ones.
    return digest([path.parent.name, path.name, rows])
