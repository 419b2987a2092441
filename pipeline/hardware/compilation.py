"""Whether the decoder layers are compiled for training: decided here, with a reason to print."""

import logging
import shutil
from typing import Literal

from torch._inductor import config as inductor

from pipeline.hardware.device import Placement

logger = logging.getLogger(__name__)

# Compiling costs the first run on a machine about 40 s and later ones about 15 s on two cores, and saves
# a fifth to a third of each step (docs/performance.md): it pays from a few minutes of training on.
_WORTH_FLOP = 2e13


def should_compile(requested: Literal["auto", "always", "never"], placement: Placement, flop: float) -> bool:
    """Resolve `runtime.compile` for epochs of `flop` floating-point operations, and log the choice."""
    chosen, reason = _choose(requested, placement, flop)
    logger.info("decoder layers: %s (%s)", "compiled" if chosen else "not compiled", reason)
    return chosen


def _choose(requested: str, placement: Placement, flop: float) -> tuple[bool, str]:
    if requested != "auto":
        return requested == "always", f"runtime.compile is {requested}"
    if placement.device.type != "cpu":
        return False, "runtime.compile is auto, which compiles on CPUs only"
    if not finds_compiler():
        return False, "no C++ compiler was found"
    if flop < _WORTH_FLOP:
        return False, "it would take longer than it saves"
    return True, "fewer passes over memory between matrix products"


def finds_compiler() -> bool:
    """Whether PyTorch finds a C++ compiler here."""
    candidates = inductor.cpp.cxx
    names = candidates if isinstance(candidates, list | tuple) else [candidates]
    return any(name and shutil.which(name) for name in names)
