"""What a training run costs on this machine, in all its sessions: time and peak memory, measured.

Cost has a file for itself: the other outputs are the same bytes wherever a run is repeated.
"""

import re
import resource
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.hardware.device import Placement

_STATUS = Path("/proc/self/status")


@dataclass
class Cost:
    """Sums over the sessions of a run, of the steps that were saved: a kill loses those since the last save.

    Attributes:
        sessions: how often the run was started or continued.
        texts: captions and conversations of all steps.
        seconds: the time that they took.
        first_texts: those of each session's first step, in which layers are compiled and caches filled.
        first_seconds: the time from the start of each session to the end of its first step.
        peak_memory: bytes, the most of all sessions.
    """

    sessions: int = 0
    texts: int = 0
    seconds: float = 0.0
    first_texts: int = 0
    first_seconds: float = 0.0
    peak_memory: int = 0

    def metrics(self, placement: Placement) -> dict[str, str | int | float]:
        """Return the content of metrics/cost.json."""
        # The first steps do not say how fast the others are, unless there are no others.
        texts, seconds = self.texts - self.first_texts, self.seconds - self.first_seconds
        rate = texts / seconds if texts else self.texts / self.seconds
        return {
            "device": placement.device.type,
            "precision": str(placement.dtype).removeprefix("torch."),
            "sessions": self.sessions,
            "texts": self.texts,
            "seconds": round(self.seconds, 2),
            "warm_up_seconds": round(self.first_seconds, 2),
            "texts_per_second": round(rate, 3),
            "peak_memory_mb": round(self.peak_memory / 1e6, 1),
        }


class CostMeter:
    """Adds the steps of a session, which begins with its creation, to the cost of a run."""

    def __init__(self, placement: Placement, cost: Cost) -> None:
        self._placement, self._cost = placement, cost
        self._is_first = True
        if placement.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(placement.device)
        self._last = time.perf_counter()

    def add(self, texts: int) -> None:
        """Add a step that was taken, and the time since the one before; without a step nothing is added."""
        cost, seconds = self._cost, time.perf_counter() - self._last
        self._last += seconds
        cost.texts += texts
        cost.seconds += seconds
        if self._is_first:
            cost.sessions += 1
            cost.first_texts += texts
            cost.first_seconds += seconds
            self._is_first = False
        cost.peak_memory = max(cost.peak_memory, peak_memory(self._placement))


def peak_memory(placement: Placement) -> int:
    """Return bytes: on CUDA the peak of all tensors, else the peak of the process's resident memory."""
    if placement.device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(placement.device))
    if _STATUS.exists():
        # Only of this program: getrusage includes the process that it was forked from.
        (peak,) = re.findall(r"^VmHWM:\s+(\d+) kB$", _STATUS.read_text(encoding="utf-8"), re.M)
        return int(peak) * 1024
    # macOS counts in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
