"""A new training says how it differs from the one that ran last.

Run: .venv/bin/python -m pytest tests/unit/training/test_starting_afresh.py
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.params.schema import Params
from tests.edited_code import EditCode
from tests.unit.training.builders import STEPS, Lab, make_lab, save_features

Said = Callable[[], list[str]]


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[Said]:
    """What was said of new trainings since the last time."""

    def since() -> list[str]:
        lines = [message for message in caplog.messages if message.startswith("New training")]
        caplog.clear()
        return lines

    with caplog.at_level(logging.INFO):
        yield since


def test_the_value_that_differs_from_the_training_that_ran_last_is_named(
    lab: Lab, tmp_path: Path, said: Said
) -> None:
    lab.train(tmp_path, epochs=1)
    assert said() == []
    lab.train(tmp_path, epochs=1, learning_rate=0.25)
    was = lab.params.train.learning_rate
    assert said() == [f"New training from step 1: train.learning_rate is 0.25, was {was}."]
    # One that continues says nothing of the sort, and is the last from then on.
    assert lab.train(tmp_path, epochs=2).trained_steps == STEPS
    assert said() == []
    lab.train(tmp_path, epochs=1, ema_decay=0.25)
    (line,) = said()
    assert "train.ema_decay is 0.25" in line
    assert "learning_rate" not in line


def test_other_inputs_are_named_by_their_kind_and_not_by_digests(
    lab: Lab, tmp_path: Path, said: Said, tiny_params: Params, edit_code: EditCode
) -> None:
    lab.train(tmp_path, epochs=1)
    spoilt = replace(lab, features=tmp_path / "features.h5")
    save_features(spoilt.features, 8, seed=1)
    spoilt.train(tmp_path, epochs=1)
    # Other images have other features, too.
    more = make_lab(tmp_path, tiny_params, images=9)
    more.train(tmp_path, epochs=1)
    with edit_code("training/optimizer.py"):
        more.train(tmp_path, epochs=1, seed=1)
    assert said() == [
        "New training from step 1: the features differ from those of the last run.",
        "New training from step 1: the images or captions differ from those of the last run.",
        "New training from step 1: the code differs from that of the last run; train.seed is 1, was 0.",
    ]


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
