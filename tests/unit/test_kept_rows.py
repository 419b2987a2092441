"""Answers are kept batch by batch: a run that continues finds the finished ones, and only good ones."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import PipelineError
from pipeline.kept_rows import KeptRows, batches
from tests.refusals import refuse

FACTS = {"checkpoint": "abc", "images": ["a", "b"]}


def rows(first: int, last: int) -> list[dict[str, object]]:
    return [{"caption": f"caption {n}", "finished": True} for n in range(first, last)]


def kept(scratch: Path) -> KeptRows:
    """Five rows, in batches of two."""
    made = KeptRows(scratch, FACTS)
    for batch in batches(rows(0, 5), 2):
        made.add(batch)
    return made


def files(scratch: Path) -> list[Path]:
    return sorted(scratch.rglob("*.json"))


def test_what_was_kept_is_found_by_the_same_facts_alone(tmp_path: Path) -> None:
    assert kept(tmp_path).rows == rows(0, 5)
    assert KeptRows(tmp_path, dict(reversed(FACTS.items()))).rows == rows(0, 5)
    assert KeptRows(tmp_path, {**FACTS, "checkpoint": "abd"}).rows == []


def test_a_batch_that_cannot_be_read_now_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(tmp_path)
    with monkeypatch.context() as patch:
        refuse(patch, tmp_path)
        with pytest.raises(PipelineError, match=r"cannot read .*json: Input/output error; it is left"):
            KeptRows(tmp_path, FACTS)
    assert KeptRows(tmp_path, FACTS).rows == rows(0, 5)


@pytest.mark.parametrize(
    "spoil", [lambda text: text.replace("caption 2", "caption 3"), lambda text: text[:40], lambda _: "[]"]
)
def test_a_damaged_batch_and_what_follows_is_made_again(tmp_path: Path, spoil: object) -> None:
    kept(tmp_path)
    second = files(tmp_path)[1]
    second.write_text(spoil(second.read_text()))  # type: ignore[operator]
    again = KeptRows(tmp_path, FACTS)
    assert again.rows == rows(0, 2)
    assert not second.exists()
    again.add(rows(2, 4))
    assert KeptRows(tmp_path, FACTS).rows == rows(0, 5)


def test_the_rows_of_other_work_are_not_taken_for_these(tmp_path: Path) -> None:
    kept(tmp_path)
    first, second, third = files(tmp_path)
    other = KeptRows(tmp_path, {"other": "work"})
    other.add(rows(7, 9))
    (of_other,) = set(files(tmp_path)) - {first, second, third}
    of_other.rename(first)
    assert KeptRows(tmp_path, FACTS).rows == []
    second.rename(first)
    assert KeptRows(tmp_path, FACTS).rows == []


def test_other_sizes_of_batches_leave_no_gap(tmp_path: Path) -> None:
    kept(tmp_path)
    files(tmp_path)[0].unlink()
    again = KeptRows(tmp_path, FACTS)
    assert again.rows == []
    again.add(rows(0, 3))
    assert KeptRows(tmp_path, FACTS).rows == rows(0, 3)
    again.add(rows(3, 5))
    assert KeptRows(tmp_path, FACTS).rows == rows(0, 5)


def test_a_batch_is_a_file_that_people_can_read(tmp_path: Path) -> None:
    kept(tmp_path)
    assert json.loads(files(tmp_path)[0].read_text())["rows"] == rows(0, 2)


@given(items=st.lists(st.integers()), size=st.integers(1, 7))
def test_batches_hold_all_items_in_order(items: list[int], size: int) -> None:
    cut = list(batches(items, size))
    assert [item for batch in cut for item in batch] == items
    assert all(len(batch) == size for batch in cut[:-1])
    assert all(1 <= len(batch) <= size for batch in cut)
