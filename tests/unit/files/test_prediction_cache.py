"""Predictions are stored batch by batch: a run that continues finds the finished ones, and only good ones.

Run: .venv/bin/python -m pytest tests/unit/files/test_prediction_cache.py
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import PipelineError
from pipeline.files.prediction_cache import PredictionCache
from tests.refusals import fail_reads

PROVENANCE = {"checkpoint": "abc", "images": ["a", "b"]}


def rows(first: int, last: int) -> list[dict[str, object]]:
    return [{"caption": f"caption {n}", "finished": True} for n in range(first, last)]


def fill(cache: PredictionCache, size: int) -> PredictionCache:
    for places in cache.gaps(size):
        cache.add(places.start, rows(places.start, places.stop))
    return cache


@pytest.fixture
def batches(tmp_path: Path) -> list[Path]:
    """The files of five rows, in batches of two."""
    assert fill(PredictionCache(tmp_path, PROVENANCE, 5), 2).rows == rows(0, 5)
    return sorted(tmp_path.rglob("*.json"))


def cache(batches: list[Path], provenance: dict[str, object] = PROVENANCE) -> PredictionCache:  # type: ignore[assignment]
    """What another run finds."""
    return PredictionCache(batches[0].parents[1], provenance, 5)


def test_predictions_are_found_by_the_same_provenance_alone(batches: list[Path]) -> None:
    batches[0].with_name("notes.json").write_text("mine")
    assert cache(batches, dict(reversed(PROVENANCE.items()))).rows == rows(0, 5)
    assert cache(batches, {**PROVENANCE, "checkpoint": "abd"}).missing == 5
    assert batches[0].with_name("notes.json").exists()


def test_a_batch_is_not_deleted_as_damaged_when_the_disk_fails(
    batches: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        fail_reads(patch, batches[0].parent)
        with pytest.raises(PipelineError, match=r"cannot read .*json: Input/output error"):
            cache(batches)
    assert cache(batches).rows == rows(0, 5)


@pytest.mark.parametrize("number", [0, 2])
@pytest.mark.parametrize(
    "spoil", [lambda text: text.replace("caption", "capti0n"), lambda text: text[:40], lambda _: "[]"]
)
def test_only_a_damaged_batch_is_computed_again(
    batches: list[Path], spoil: Callable[[str], str], number: int
) -> None:
    whole = batches[number].read_bytes()
    batches[number].write_text(spoil(batches[number].read_text()))
    again = cache(batches)
    assert not batches[number].exists()
    (gap,) = again.gaps(2)
    assert (gap.start, again.missing) == (2 * number, len(gap))
    assert fill(again, 2).rows == rows(0, 5)
    assert batches[number].read_bytes() == whole


def test_rows_of_other_work_or_another_batch_are_not_used(tmp_path: Path, batches: list[Path]) -> None:
    fill(PredictionCache(tmp_path, {"other": "work"}, 2), 2)
    (other,) = set(tmp_path.rglob("*.json")) - set(batches)
    other.rename(batches[0])
    assert list(cache(batches).gaps(9)) == [range(2)]
    batches[1].rename(batches[0])
    assert list(cache(batches).gaps(9)) == [range(4)]


def test_batches_of_other_sizes_fill_the_gaps(batches: list[Path]) -> None:
    batches[0].unlink()
    assert fill(cache(batches), 1).rows == cache(batches).rows == rows(0, 5)
    assert len(list(batches[0].parent.iterdir())) == 4


@given(finished=st.sets(st.integers(0, 11)), size=st.integers(1, 5))
def test_gaps_hold_the_missing_rows_and_at_most_a_batch(
    tmp_path_factory: pytest.TempPathFactory, finished: set[int], size: int
) -> None:
    cache = PredictionCache(tmp_path_factory.mktemp("scratch"), PROVENANCE, 12)
    for place in finished:
        cache.add(place, rows(place, place + 1))
    gaps = list(cache.gaps(size))
    assert [place for gap in gaps for place in gap] == sorted(set(range(12)) - finished)
    assert all(1 <= len(gap) <= size and not cache.has(gap) for gap in gaps)
    assert cache.has(finished)
