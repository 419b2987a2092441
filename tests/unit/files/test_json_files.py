"""JSON between stages: equal bytes for equal content, and a sentence for what is not JSON.

Run: .venv/bin/python -m pytest tests/unit/files/test_json_files.py
"""

import hashlib
import math
from pathlib import Path

import pytest

from pipeline.files.json_files import (
    canonical_json,
    digest,
    read_json,
    read_jsonl,
    sha256_of_file,
    write_json,
    write_jsonl,
)
from tests.refusals import fail_reads, refusal

READERS = (read_json, lambda path: list(read_jsonl(path)))


def test_canonical_json_is_sorted_compact_and_readable() -> None:
    assert canonical_json({"b": [1, 2.5, None], "a": {"d": True, "c": "é"}}) == (
        '{"a": {"c": "é", "d": true}, "b": [1, 2.5, null]}'
    )
    assert digest({"b": 1, "a": 2}) == hashlib.sha256(b'{"a": 2, "b": 1}').hexdigest()


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_nan_and_infinities_are_refused_and_leave_the_old_file(tmp_path: Path, value: float) -> None:
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [{"a": 1}])
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_jsonl(path, [{"a": 2}, {"a": value}])
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"loss": value})
    assert path.read_text() == '{"a": 1}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_json_for_people_keeps_the_order_of_keys(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"b": 1, "a": "ü"})
    assert path.read_text(encoding="utf-8") == '{\n  "b": 1,\n  "a": "ü"\n}\n'
    assert read_json(path) == {"b": 1, "a": "ü"}
    assert sha256_of_file(path) == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("third_line", "message"),
    [('{"a": 1', "not valid JSON"), ("[1, 2]", r"\[1, 2\], expected a JSON object")],
)
def test_a_malformed_line_is_named_by_its_number(tmp_path: Path, third_line: str, message: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"a": 1}}\n \n{third_line}\n{{"a": 2}}\n')
    refusal(list, read_jsonl(path), match=rf"rows\.jsonl:3 .*{message}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": "\xff"}\n', "is not UTF-8 text"),
        (b"[" * 100_000, "is not valid JSON"),
        (None, r"does not exist.*`dvc repro`"),
    ],
)
def test_a_file_that_is_not_json_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    for read in READERS:
        refusal(read, path, match=rf"a\.json(:1)? {message}")


def test_a_file_on_a_disk_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.json").write_text("{}")
    fail_reads(monkeypatch, tmp_path)
    for read in READERS:
        refusal(read, tmp_path / "a.json", match=r"cannot read .*a\.json: Input/output error")
