"""Choosing whether the decoder layers are compiled for training, with a reason to print."""

import logging
import shutil
from typing import Literal

from torch._inductor import config as inductor
from torch.utils._triton import has_triton

from pipeline.hardware.device import Placement

logger = logging.getLogger(__name__)

# Compiling costs 40 s in the first run on a machine and 15 s in later ones, on two cores, and saves a fifth
# to a third of each step (docs/performance.md): it pays from a few minutes of training on. On CUDA, where it
# has not been measured, these are the minutes of a card of 15 TFLOP/s.
_WORTH_FLOP = {"cpu": 2e13, "cuda": 3e15}


def should_compile(requested: Literal["auto", "always", "never"], placement: Placement, flop: float) -> bool:
    """Resolve `runtime.compile` for epochs of `flop` floating-point operations, and log the choice."""
    if requested != "auto":
        chosen, reason = requested == "always", f"runtime.compile is {requested}"
    elif placement.device.type not in _WORTH_FLOP:
        chosen, reason = False, "runtime.compile is auto, which compiles on CPUs and CUDA only"
    elif not finds_compiler():
        chosen, reason = False, "no C++ compiler was found"
    elif placement.device.type == "cuda" and not has_triton():
        chosen, reason = False, "Triton, which compiles for CUDA, was not found"
    elif flop < _WORTH_FLOP[placement.device.type]:
        chosen, reason = False, "it would take longer than it saves"
    else:
        chosen, reason = True, "fewer passes over memory between matrix products"
    logger.info("decoder layers: %s (%s)", "compiled" if chosen else "not compiled", reason)
    return chosen


def finds_compiler() -> bool:
    """Check that PyTorch finds a C++ compiler."""
    return any(name and shutil.which(name) for name in inductor.cpp.cxx)
