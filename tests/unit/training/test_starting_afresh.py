"""A training that continues none of those that are kept says in which facts it differs from the last of them.

Run: .venv/bin/python -m pytest tests/unit/training/test_starting_afresh.py
"""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.unit.training.builders import STEPS, Lab

Said = Callable[[], list[str]]


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[Said]:
    """What was said of starting afresh since the last time."""

    def since() -> list[str]:
        lines = [message for message in caplog.messages if message.startswith("starting afresh")]
        caplog.clear()
        return lines

    with caplog.at_level(logging.INFO):
        yield since


def test_the_value_that_differs_from_the_training_that_ran_last_is_named(
    lab: Lab, tmp_path: Path, said: Said
) -> None:
    lab.train(tmp_path, epochs=1)
    assert said() == []
    (first,) = (tmp_path / "scratch").iterdir()
    lab.train(tmp_path, epochs=1, learning_rate=0.25)
    was = lab.params.train.learning_rate
    assert said() == [f"starting afresh, unlike {first}: train.learning_rate is 0.25, was {was}"]
    # One that continues says nothing of the sort, and is the last from then on.
    assert lab.train(tmp_path, epochs=2).trained_steps == STEPS
    assert said() == []
    lab.train(tmp_path, epochs=1, ema_decay=0.25)
    (line,) = said()
    assert "train.ema_decay is 0.25" in line
    assert "learning_rate" not in line


@pytest.mark.parametrize("content", ["", "[1]", '{"train": {"learning_rate"'])
def test_facts_that_are_damaged_are_passed_over_and_written_again(
    lab: Lab, tmp_path: Path, said: Said, content: str
) -> None:
    lab.train(tmp_path, epochs=1)
    (facts,) = (tmp_path / "scratch").glob("*/facts.json")
    whole = facts.read_bytes()
    facts.write_text(content)
    lab.train(tmp_path, epochs=1, seed=1)
    assert said() == []
    assert lab.train(tmp_path, epochs=1).trained_steps == 0
    assert facts.read_bytes() == whole
