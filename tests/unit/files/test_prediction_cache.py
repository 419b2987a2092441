"""Answers are kept batch by batch: a run that continues finds the finished ones, and only good ones."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import PipelineError
from pipeline.files.batched import batched
from pipeline.files.prediction_cache import PredictionCache
from tests.refusals import fail_reads

FACTS = {"checkpoint": "abc", "images": ["a", "b"]}


def rows(first: int, last: int) -> list[dict[str, object]]:
    return [{"caption": f"caption {n}", "finished": True} for n in range(first, last)]


def kept(scratch: Path) -> PredictionCache:
    """Five rows, in batches of two."""
    made = PredictionCache(scratch, FACTS, 5)
    for places in made.gaps(2):
        made.add(places.start, rows(places.start, places.stop))
    return made


def files(scratch: Path) -> list[Path]:
    return sorted(scratch.rglob("*.json"))


def test_what_was_kept_is_found_by_the_same_facts_alone(tmp_path: Path) -> None:
    assert kept(tmp_path).rows == rows(0, 5)
    assert PredictionCache(tmp_path, dict(reversed(FACTS.items())), 5).rows == rows(0, 5)
    assert PredictionCache(tmp_path, {**FACTS, "checkpoint": "abd"}, 5).missing == 5


def test_a_batch_is_not_deleted_as_damaged_when_the_disk_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(tmp_path)
    with monkeypatch.context() as patch:
        fail_reads(patch, tmp_path)
        with pytest.raises(PipelineError, match=r"cannot read .*json: Input/output error; it is left"):
            PredictionCache(tmp_path, FACTS, 5)
    assert PredictionCache(tmp_path, FACTS, 5).rows == rows(0, 5)


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize(
    "spoil", [lambda text: text.replace("caption", "capti0n"), lambda text: text[:40], lambda _: "[]"]
)
def test_a_damaged_batch_alone_is_made_again(
    tmp_path: Path, spoil: Callable[[str], str], number: int
) -> None:
    kept(tmp_path)
    damaged = files(tmp_path)[number]
    whole = damaged.read_bytes()
    damaged.write_text(spoil(damaged.read_text()))
    again = PredictionCache(tmp_path, FACTS, 5)
    assert not damaged.exists()
    (gap,) = again.gaps(2)
    assert (gap.start, again.missing) == (2 * number, len(gap))
    again.add(gap.start, rows(gap.start, gap.stop))
    assert damaged.read_bytes() == whole
    assert PredictionCache(tmp_path, FACTS, 5).rows == again.rows == rows(0, 5)


def test_the_rows_of_other_work_are_not_taken_for_these(tmp_path: Path) -> None:
    kept(tmp_path)
    first, second, third = files(tmp_path)
    other = PredictionCache(tmp_path, {"other": "work"}, 2)
    other.add(0, rows(7, 9))
    (of_other,) = set(files(tmp_path)) - {first, second, third}
    of_other.rename(first)
    assert list(PredictionCache(tmp_path, FACTS, 5).gaps(9)) == [range(2)]
    second.rename(first)
    assert list(PredictionCache(tmp_path, FACTS, 5).gaps(9)) == [range(4)]


def test_other_sizes_of_batches_fill_the_gaps(tmp_path: Path) -> None:
    kept(tmp_path)
    files(tmp_path)[0].unlink()
    again = PredictionCache(tmp_path, FACTS, 5)
    for places in again.gaps(1):
        again.add(places.start, rows(places.start, places.stop))
    assert len(files(tmp_path)) == 4
    assert PredictionCache(tmp_path, FACTS, 5).rows == again.rows == rows(0, 5)


def test_a_file_that_is_no_batch_is_left_alone(tmp_path: Path) -> None:
    kept(tmp_path)
    other = files(tmp_path)[0].with_name("notes.json")
    other.write_text("mine")
    assert PredictionCache(tmp_path, FACTS, 5).rows == rows(0, 5)
    assert other.exists()


@given(finished=st.sets(st.integers(0, 11)), size=st.integers(1, 5))
def test_gaps_hold_what_is_missing_and_no_more_than_a_batch(
    tmp_path_factory: pytest.TempPathFactory, finished: set[int], size: int
) -> None:
    made = PredictionCache(tmp_path_factory.mktemp("kept"), FACTS, 12)
    for place in finished:
        made.add(place, rows(place, place + 1))
    gaps = list(made.gaps(size))
    assert [place for gap in gaps for place in gap] == sorted(set(range(12)) - finished)
    assert all(1 <= len(gap) <= size and not made.has(gap) for gap in gaps)
    assert made.has(finished)


def test_a_batch_is_a_file_that_people_can_read(tmp_path: Path) -> None:
    kept(tmp_path)
    assert json.loads(files(tmp_path)[0].read_text())["rows"] == rows(0, 2)


@given(items=st.lists(st.integers()), size=st.integers(1, 7))
def test_batches_hold_all_items_in_order(items: list[int], size: int) -> None:
    cut = list(batched(items, size))
    assert [item for batch in cut for item in batch] == items
    assert all(len(batch) == size for batch in cut[:-1])
    assert all(1 <= len(batch) <= size for batch in cut)
