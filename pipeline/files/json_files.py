"""JSON and JSON lines between stages, written atomically.

DVC compares files byte by byte, so equal content must give equal bytes: sorted keys, `\\n` line ends, no NaN.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.files.atomic import replace_file

JsonObject = dict[str, Any]


def canonical_json(value: Any) -> str:
    """`value` as compact JSON with sorted keys; raises ValueError for NaN and infinities."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of `value`: a fingerprint."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def sha256_of_file(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomic(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write `content`, whole or in pieces, atomically. Raises PipelineError if it cannot be written."""
    with replace_file(path) as temporary, temporary.open("wb") as file:
        file.writelines([content] if isinstance(content, bytes) else content)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with keys in the given order, for files that people read too."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomic(path, f"{text}\n".encode())


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises PipelineError if it is missing or malformed."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _explain(error, path, f"{path}") from error


def write_jsonl(path: Path, rows: Iterable[JsonObject]) -> None:
    """Write one canonical JSON object a line; `rows` may be an iterator over more than memory holds."""
    write_atomic(path, (f"{canonical_json(row)}\n".encode() for row in rows))


def read_jsonl(path: Path) -> Iterator[tuple[int, JsonObject]]:
    """Yield `(line number, object)` for each non-empty line; PipelineError names a malformed line."""
    number = 0
    try:
        # Editors on Windows put a byte order mark at the beginning.
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise PipelineError(f"{path}:{number} holds {row!r:.60}, expected a JSON object.")
                yield number, row
    except (OSError, ValueError, RecursionError) as error:
        raise _explain(error, path, f"{path}:{number}") from error


def _explain(error: Exception, path: Path, place: str) -> PipelineError:
    """The sentence for an error while JSON was read at `place` of `path`."""
    if isinstance(error, FileNotFoundError):
        return PipelineError(f"{path} does not exist. Fix: run `dvc repro`.")
    if isinstance(error, OSError):
        return PipelineError(f"cannot read {path}: {error.strerror}.")
    if isinstance(error, UnicodeDecodeError):
        return PipelineError(f"{path} is not UTF-8 text: {error}.")
    return PipelineError(f"{place} is not valid JSON: {error}.")
