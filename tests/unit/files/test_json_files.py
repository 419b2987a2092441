"""Small files between stages: written whole or not at all, equal bytes for equal content.

Run: .venv/bin/python -m pytest tests/unit/files/test_json_files.py
"""

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import PipelineError
from pipeline.files.json_files import (
    canonical_json,
    digest,
    read_json,
    read_jsonl,
    sha256_of_file,
    write_json,
    write_jsonl,
)
from tests.refusals import fail_reads

VALUES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)


def test_rows_that_cannot_be_written_leave_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [{"a": 1}])
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_jsonl(path, [{"a": 2}, {"a": float("nan")}])
    assert path.read_text() == '{"a": 1}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_canonical_json_is_sorted_compact_and_readable() -> None:
    assert canonical_json({"b": [1, 2.5, None], "a": {"d": True, "c": "é"}}) == (
        '{"a": {"c": "é", "d": true}, "b": [1, 2.5, null]}'
    )


@given(st.dictionaries(st.text(), VALUES))
def test_canonical_json_and_digest_do_not_depend_on_the_order_of_keys(value: dict[str, object]) -> None:
    backwards = dict(reversed(value.items()))
    assert canonical_json(value) == canonical_json(backwards)
    assert digest(value) == digest(backwards)


def test_the_digest_is_that_of_the_canonical_json() -> None:
    assert digest({"b": 1, "a": 2}) == hashlib.sha256(b'{"a": 2, "b": 1}').hexdigest()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_infinities_are_refused(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"loss": value})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "metrics.json", {"loss": value})
    assert list(tmp_path.iterdir()) == []


def test_json_for_people_keeps_the_order_of_keys(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": "ü"})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "b": 1,\n  "a": "ü"\n}\n'
    assert read_json(tmp_path / "a.json") == {"b": 1, "a": "ü"}


@given(rows=st.lists(st.dictionaries(st.text(), VALUES), max_size=4))
def test_rows_come_back_with_their_line_numbers(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, object]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "rows.jsonl"
    write_jsonl(path, rows)
    assert list(read_jsonl(path)) == list(enumerate(rows, start=1))


def test_empty_lines_are_skipped_and_counted(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n\n  \n{"a": 2}')
    assert list(read_jsonl(tmp_path / "rows.jsonl")) == [(1, {"a": 1}), (4, {"a": 2})]


@pytest.mark.parametrize(
    ("third_line", "message"),
    [
        ('{"a": 1', "not valid JSON"),
        ("[1, 2]", "holds [1, 2], expected a JSON object"),
        ("7", "holds 7, expected a JSON object"),
        ("hello", "not valid JSON"),
    ],
)
def test_a_malformed_line_is_named_by_its_number(tmp_path: Path, third_line: str, message: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"a": 1}}\n\n{third_line}\n{{"a": 2}}\n')
    with pytest.raises(PipelineError) as caught:
        list(read_jsonl(path))
    assert str(caught.value).startswith(f"{path}:3 ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"a": ', r"is not valid JSON"),
        (b'{"a": "\xff"}\n', r"is not (UTF-8 text|valid JSON)"),
        (b"[" * 100_000, r"is not valid JSON"),
        (None, r"does not exist; run `dvc repro`"),
    ],
)
def test_what_is_not_json_or_not_there_is_named(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PipelineError, match=rf"a\.json {said}"):
        read_json(path)
    with pytest.raises(PipelineError, match=rf"a\.json(:1)? {said}"):
        list(read_jsonl(path))


def test_a_file_on_a_disk_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.json").write_text("{}")
    fail_reads(monkeypatch, tmp_path)
    for read in (read_json, lambda path: list(read_jsonl(path))):
        with pytest.raises(PipelineError, match=r"cannot read .*a\.json: Input/output error"):
            read(tmp_path / "a.json")


def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    content = os.urandom(300_000)
    (tmp_path / "file").write_bytes(content)
    assert sha256_of_file(tmp_path / "file") == hashlib.sha256(content).hexdigest()
