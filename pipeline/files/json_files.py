"""Small files that pass between stages: canonical JSON and JSON lines, written atomically.

DVC compares files byte by byte, so everything here is canonical: sorted keys, `\\n` line ends, no NaN,
no time stamps. Equal content gives equal bytes.
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
    """SHA-256 (hex) of the canonical JSON of `value`: the fingerprint of a set of facts."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def sha256_of_file(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomic(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write `content`, whole or in pieces, so that a reader or a crash sees the old file or the new.

    Raises PipelineError where the disk refuses.
    """
    with replace_file(path) as temporary, temporary.open("wb") as file:
        file.writelines([content] if isinstance(content, bytes) else content)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, keys in the given order, for files that people read too."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomic(path, f"{text}\n".encode())


def read_json(path: Path) -> Any:
    """The content of a JSON file; PipelineError when it is missing or malformed."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _explain(error, path, f"{path}") from error


def write_jsonl(path: Path, rows: Iterable[JsonObject]) -> None:
    """Write one canonical JSON object a line, one after the other: `rows` may be too many to hold."""
    write_atomic(path, (f"{canonical_json(row)}\n".encode() for row in rows))


def read_jsonl(path: Path) -> Iterator[tuple[int, JsonObject]]:
    """Yield `(line number, object)` for each non-empty line; PipelineError names a malformed line."""
    number = 0
    try:
        # Editors on Windows begin a file with a byte order mark.
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
    """The sentence for what was met while JSON was read at `place` of `path`."""
    if isinstance(error, FileNotFoundError):
        return PipelineError(f"{path} does not exist; run `dvc repro` to make it.")
    if isinstance(error, OSError):
        return PipelineError(f"cannot read {path}: {error.strerror}.")
    if isinstance(error, UnicodeDecodeError):
        return PipelineError(f"{path} is not UTF-8 text: {error}.")
    return PipelineError(f"{place} is not valid JSON: {error}.")
