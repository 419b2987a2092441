"""A training that continues none of those that are kept says in which facts it differs from the last of them.

Run: .venv/bin/python -m pytest tests/unit/training/test_starting_afresh.py
"""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.training_lab import STEPS, Lab


@pytest.fixture(autouse=True)
def facts_are_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.INFO):
        yield


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was said of starting afresh since the last time."""
    lines = [message for message in caplog.messages if message.startswith("starting afresh")]
    caplog.clear()
    return lines


def test_the_value_that_differs_is_named(lab: Lab, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lab.train(tmp_path, epochs=1)
    assert said(caplog) == []
    (first,) = (tmp_path / "scratch").iterdir()
    lab.train(tmp_path, epochs=1, learning_rate=0.25)
    was = lab.params.train.learning_rate
    assert said(caplog) == [f"starting afresh, unlike {first}: train.learning_rate is 0.25, was {was}"]


def test_it_is_compared_with_the_training_that_ran_last(
    lab: Lab, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lab.train(tmp_path, epochs=1, seed=1)
    lab.train(tmp_path, epochs=1)
    lab.train(tmp_path, epochs=1, seed=1)
    caplog.clear()
    lab.train(tmp_path, epochs=1, seed=1, ema_decay=0.25)
    (line,) = said(caplog)
    assert "train.ema_decay is 0.25" in line
    assert "seed" not in line


def test_a_training_that_continues_says_nothing_of_the_sort(
    lab: Lab, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lab.train(tmp_path, epochs=1, seed=1)
    lab.train(tmp_path, epochs=1)
    caplog.clear()
    assert lab.train(tmp_path, epochs=2).trained_steps == STEPS
    assert said(caplog) == []


@pytest.mark.parametrize("content", ["", "[1]", '{"train": {"learning_rate"'])
def test_facts_that_are_damaged_are_passed_over_and_written_anew(
    lab: Lab, tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    lab.train(tmp_path, epochs=1)
    (facts,) = (tmp_path / "scratch").glob("*/facts.json")
    whole = facts.read_bytes()
    facts.write_text(content)
    lab.train(tmp_path, epochs=1, seed=1)
    assert said(caplog) == []
    assert lab.train(tmp_path, epochs=1).trained_steps == 0
    assert facts.read_bytes() == whole
