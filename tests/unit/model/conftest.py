"""A small training run, with adapters."""

import pytest

from pipeline.params.schema import Params
from tests.unit.training.builders import Lab, make_lab


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, tiny_params: Params) -> Lab:
    return make_lab(tmp_path_factory.mktemp("lab"), tiny_params)
