"""A small training run, and one of three epochs that nothing interrupted."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.params.schema import Params
from tests.training_lab import STEPS, Lab, make_lab


@pytest.fixture(scope="module")
def params(tiny_params: Params, tiny_llama: Path) -> Params:
    model = replace(tiny_params.language_model, name=str(tiny_llama))
    return replace(tiny_params, language_model=model)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, params: Params) -> Lab:
    return make_lab(tmp_path_factory.mktemp("lab"), params, images=8)


@pytest.fixture(scope="module")
def finished(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three epochs that nothing interrupted."""
    folder = tmp_path_factory.mktemp("finished")
    done = lab.train(folder, epochs=3, save_every_seconds=1e9)
    assert (done.epochs, done.steps, done.trained_steps) == (3, 3 * STEPS, 3 * STEPS)
    return folder
