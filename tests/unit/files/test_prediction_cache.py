"""Predictions are stored batch by batch: a run that continues finds the finished ones, and only good ones.

Run: .venv/bin/python -m pytest tests/unit/files/test_prediction_cache.py
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.files.prediction_cache import PredictionCache

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


@pytest.mark.parametrize("number", [0, 2])
@pytest.mark.parametrize(
    "spoil", [lambda text: text.replace("caption", "capti0n"), lambda text: text[:40], lambda _: "[]"]
)
def test_a_damaged_batch_is_made_again(batches: list[Path], spoil: Callable[[str], str], number: int) -> None:
    whole = batches[number].read_bytes()
    batches[number].write_text(spoil(batches[number].read_text()))
    again = cache(batches)
    assert not batches[number].exists()
    (gap,) = again.gaps(2)
    assert (gap.start, again.missing) == (2 * number, len(gap))
    assert fill(again, 2).rows == rows(0, 5)
    assert batches[number].read_bytes() == whole


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
