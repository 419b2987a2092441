"""The GPU of the tests that need one, in a precision that it would not choose by itself."""

import torch

from pipeline.hardware.device import Placement

GPU = torch.device("cuda")
PRECISIONS = (torch.bfloat16, torch.float16, torch.float32)


def on_gpu(dtype: torch.dtype) -> Placement:
    """The GPU, computing in `dtype`."""
    return Placement(GPU, dtype, "asked for")
