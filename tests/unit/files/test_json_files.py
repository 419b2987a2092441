"""Small files between stages: written whole or not at all, equal bytes for equal content.

Run: .venv/bin/python -m pytest tests/unit/files/test_json_files.py
"""

import errno
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
    write_atomic,
    write_json,
    write_jsonl,
)

VALUES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)


def test_a_file_is_written_with_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.bin"
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert [p.name for p in path.parent.iterdir()] == ["file.bin"]


def test_a_file_is_as_readable_as_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "file"
    write_atomic(path, b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PipelineError, match=r"file: No space left on device \([\d,.]+ MB free there"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "file"
    write_atomic(path, b"old")
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(PipelineError, match=r"cannot write .*taken"):
        write_atomic(tmp_path / "taken", b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


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
    assert digest({"b": 1, "a": 2}) != digest({"b": 1, "a": 3})


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


def test_missing_and_malformed_json_are_named(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"a\.json does not exist"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text('{"a": ')
    with pytest.raises(PipelineError, match=r"a\.json is not valid JSON"):
        read_json(tmp_path / "a.json")


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


def test_rows_that_are_no_text_or_not_there_are_named(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"a": "\xff"}\n')
    with pytest.raises(PipelineError, match=r"rows\.jsonl is not UTF-8 text"):
        list(read_jsonl(tmp_path / "rows.jsonl"))
    with pytest.raises(PipelineError, match=r"none\.jsonl does not exist; run `dvc repro`"):
        list(read_jsonl(tmp_path / "none.jsonl"))


def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    content = os.urandom(300_000)
    (tmp_path / "file").write_bytes(content)
    assert sha256_of_file(tmp_path / "file") == hashlib.sha256(content).hexdigest()
