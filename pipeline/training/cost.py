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


@dataclass(frozen=True)
class Cost:
    """Sums over the sessions of a run, of the steps that were saved: a kill loses those since the last save.

    Attributes:
        sessions: how often the run was started or continued.
        captions: captions of all steps.
        seconds: the time that they took.
        first_captions: captions of each session's first step, in which layers are compiled and caches
            filled.
        first_seconds: the time from the start of each session to the end of its first step.
        peak_memory: bytes, the most of all sessions.
    """

    sessions: int = 0
    captions: int = 0
    seconds: float = 0.0
    first_captions: int = 0
    first_seconds: float = 0.0
    peak_memory: int = 0

    def metrics(self, placement: Placement) -> dict[str, str | int | float]:
        """Return the content of metrics/cost.json."""
        # The first steps do not say how fast the others are, unless there are no others.
        captions, seconds = self.captions - self.first_captions, self.seconds - self.first_seconds
        rate = captions / seconds if captions else self.captions / self.seconds
        return {
            "device": placement.device.type,
            "precision": str(placement.dtype).removeprefix("torch."),
            "sessions": self.sessions,
            "captions": self.captions,
            "seconds": round(self.seconds, 2),
            "warm_up_seconds": round(self.first_seconds, 2),
            "captions_per_second": round(rate, 3),
            "peak_memory_mb": round(self.peak_memory / 1e6, 1),
        }


class CostMeter:
    """Measures a session from its creation on; `add` counts captions."""

    def __init__(self, placement: Placement, before: Cost) -> None:
        self._placement = placement
        self._before = before
        self._captions = self._first_captions = 0
        self._first_seconds = 0.0
        if placement.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(placement.device)
        self._start = time.perf_counter()

    def add(self, captions: int) -> None:
        """Count the captions of a step that was taken."""
        if not self._captions:
            self._first_captions, self._first_seconds = captions, time.perf_counter() - self._start
        self._captions += captions

    def total(self) -> Cost:
        """Return the cost until now, with earlier sessions; a session without a step costs nothing."""
        before = self._before
        if not self._captions:
            return before
        return Cost(
            sessions=before.sessions + 1,
            captions=before.captions + self._captions,
            seconds=before.seconds + time.perf_counter() - self._start,
            first_captions=before.first_captions + self._first_captions,
            first_seconds=before.first_seconds + self._first_seconds,
            peak_memory=max(before.peak_memory, peak_memory(self._placement)),
        )


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
