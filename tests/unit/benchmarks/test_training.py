"""The time to a loss is the time of the steps until a hundred captions have it on average."""

import math
from pathlib import Path

from benchmarks.common import Task


def test_a_loss_is_reached_where_the_mean_of_a_hundred_captions_is_that_low() -> None:
    task = Task(Path(), "model", "cpu", to_loss=2.0)
    # 50 captions a step: two steps are a hundred captions, and one low step is not enough.
    losses = [4.0, 1.0, 3.5, 2.0, 2.0, 1.0]
    assert task.time_to_loss(losses, captions=50, rate=10) == {
        "captions to the loss": 250,
        "seconds to the loss": 25,
    }
    assert task.time_to_loss(losses[:4], 50, 10)["seconds to the loss"] == math.inf
    assert Task(Path(), "model", "cpu").time_to_loss(losses, 50, 10) == {}
