"""Text files of datasets, each line and row with its place, `file:line`, for the message about it."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError


def read_text(path: Path) -> str:
    """A UTF-8 file, with or without a byte order mark."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise PipelineError(f"{path} does not exist; put it there or change data.root.") from error
    except OSError as error:
        raise PipelineError(f"cannot read {path}: {error.strerror}.") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise PipelineError(
            f"{path}:{line} is not UTF-8 (byte 0x{content[error.start]:02x}); save it as UTF-8."
        ) from error


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield `(place, line)` for each line that is not blank."""
    # Not splitlines(), which also splits at characters that captions may hold (U+2028, ...).
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield f"{path}:{number}", line.removesuffix("\r")


def parse_json(text: str, path: Path, first_line: int = 1) -> Any:
    """The value of a JSON text that begins at `first_line` of `path`."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        raise PipelineError(f"{path}:{line} is not valid JSON: {error.msg}.") from error
    except RecursionError as error:
        raise PipelineError(f"{path}:{first_line} is not valid JSON: nested too deep.") from error
    except ValueError as error:  # a number of thousands of digits
        raise PipelineError(f"{path}:{first_line} is not usable JSON: {error}.") from error


def read_rows(path: Path, optional: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield `(place, row)` of a CSV file whose header is image,caption and maybe `optional`."""
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
                    raise PipelineError(
                        f"{place}: the header is {','.join(cells)!r:.60}; allowed: {allowed}."
                    )
            elif line - first > 1:
                raise PipelineError(f"{place} goes on in the next line; close its quotation mark.")
            elif len(cells) != len(header):
                raise PipelineError(
                    f"{place} has {len(cells)} cells, not {len(header)} ({','.join(header)}); "
                    "a caption with a comma needs quotation marks around it."
                )
            else:
                yield place, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise PipelineError(f"{path}:{line} is malformed CSV: {error}.") from error
    if header is None:
        raise PipelineError(f"{path} is empty; expected the header {allowed} and a caption a row.")
