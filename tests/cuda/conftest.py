"""A small training run on a CUDA GPU; without one all of these tests are skipped.

Run: make test-cuda
"""

import gc
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from pipeline.hardware.device import Placement, choose_placement
from pipeline.params.schema import Params
from tests.params_files import with_changes
from tests.unit.training.builders import Lab, make_lab

PRECISIONS = (torch.bfloat16, torch.float16, torch.float32)


def on_gpu(dtype: torch.dtype) -> Placement:
    """The GPU, computing in a precision that it would not choose by itself."""
    return Placement(torch.device("cuda"), dtype, "asked for")


@pytest.fixture(scope="session", autouse=True)
def gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA GPU")


@pytest.fixture(autouse=True)
def memory_given_back() -> Iterator[None]:
    """Peaks of memory are a test's own."""
    yield
    gc.collect()  # models lie in cycles
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


@pytest.fixture(scope="module")
def params(tiny_params: Params) -> Params:
    return with_changes(tiny_params, runtime={"device": "cuda", "pin_memory": True})


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, params: Params) -> Lab:
    made = make_lab(tmp_path_factory.mktemp("lab"), params)
    return replace(made, placement=choose_placement("cuda"))
