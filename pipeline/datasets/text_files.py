"""Read text files of datasets; each line and row comes with its place, `file:line`, for error messages."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError


def read_text(path: Path) -> str:
    """Read a UTF-8 file, with or without a byte order mark."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise PipelineError(f"{path} does not exist. Fix: put it there or change data.root.") from error
    except OSError as error:
        raise PipelineError(f"cannot read {path}: {error.strerror}.") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = content[error.start]
        raise PipelineError(
            f"{path}:{line} is not UTF-8 (byte 0x{byte:02x}). Fix: save it as UTF-8."
        ) from error


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield `(place, line)` for each line that is not blank."""
    # Not splitlines(): it also splits at characters that captions may hold (U+2028, ...).
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield f"{path}:{number}", line.removesuffix("\r")


def parse_json(text: str, path: Path, first_line: int = 1) -> Any:
    """Parse a JSON text that begins at `first_line` of `path`."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits, and deep nesting
        line = first_line + getattr(error, "lineno", 1) - 1
        raise PipelineError(f"{path}:{line} is not valid JSON: {getattr(error, 'msg', error)}.") from error


def to_object(value: object, place: str) -> dict[str, Any]:
    """Return a JSON value that is an object. Raises PipelineError for anything else."""
    if not isinstance(value, dict):
        raise PipelineError(f"{place} is {value!r:.60}, expected an object.")
    return value


def to_objects(value: object, place: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the objects of a list, each with its place. Raises PipelineError for anything else."""
    if not isinstance(value, list):
        raise PipelineError(f"{place} is {value!r:.60}, expected a list of objects.")
    return [(f"{place}[{number}]", to_object(row, f"{place}[{number}]")) for number, row in enumerate(value)]


def read_rows(path: Path, optional: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield `(place, row)` of a CSV file whose header is image,caption and possibly `optional`."""
    allowed = f"image,caption{''.join(f'[,{name}]' for name in optional)}"
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    header: list[str] | None = None
    line = 1
    try:
        for cells in reader:
            place, first, line = f"{path}:{line}", line, reader.line_num + 1
            if not cells:
                continue
            if header is None:
                header = cells
                if not {"image", "caption"} <= set(header) <= {"image", "caption", *optional}:
                    raise PipelineError(f"{place}: unknown header {','.join(cells)!r:.60}. Use {allowed}.")
            elif line - first > 1:
                raise PipelineError(f"{place} continues on the next line. Fix: close its quotation mark.")
            elif len(cells) != len(header):
                raise PipelineError(
                    f"{place} has {len(cells)} cells, not {len(header)} ({','.join(header)}). "
                    "Fix: put a caption with a comma in quotation marks."
                )
            else:
                yield place, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise PipelineError(f"{path}:{line} is malformed CSV: {error}.") from error
    if header is None:
        raise PipelineError(f"{path} is empty. It needs the header {allowed} and one caption on each row.")
