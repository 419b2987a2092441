"""A training run of three epochs that nothing interrupted."""

from pathlib import Path

import pytest

from tests.unit.training.builders import STEPS, Lab


@pytest.fixture(scope="module")
def finished(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three epochs without interruption, whose state was saved only at the ends of epochs."""
    folder = tmp_path_factory.mktemp("finished")
    summary = lab.train(folder, epochs=3, runtime={"save_every_seconds": 1e9})
    assert (summary.epochs, summary.steps, summary.trained_steps) == (3, 3 * STEPS, 3 * STEPS)
    return folder
