"""Choosing whether the decoder layers are compiled for training, with a reason to print."""

import logging
import shutil
from typing import Literal

from torch._inductor import config as inductor

from pipeline.hardware.device import Placement

logger = logging.getLogger(__name__)

# Compiling costs 40 s in the first run on a machine and 15 s in later ones, on two cores, and saves a fifth
# to a third of each step (docs/performance.md): it pays from a few minutes of training on.
_WORTH_FLOP = 2e13


def should_compile(requested: Literal["auto", "always", "never"], placement: Placement, flop: float) -> bool:
    """Resolve `runtime.compile` for epochs of `flop` floating-point operations, and log the choice."""
    if requested != "auto":
        chosen, reason = requested == "always", f"runtime.compile is {requested}"
    elif placement.device.type != "cpu":
        chosen, reason = False, "runtime.compile is auto, which compiles on CPUs only"
    elif not finds_compiler():
        chosen, reason = False, "no C++ compiler was found"
    elif flop < _WORTH_FLOP:
        chosen, reason = False, "it would take longer than it saves"
    else:
        chosen, reason = True, "fewer passes over memory between matrix products"
    logger.info("decoder layers: %s (%s)", "compiled" if chosen else "not compiled", reason)
    return chosen


def finds_compiler() -> bool:
    """Check that PyTorch finds a C++ compiler."""
    candidates = inductor.cpp.cxx
    names = candidates if isinstance(candidates, list | tuple) else [candidates]
    return any(name and shutil.which(name) for name in names)
