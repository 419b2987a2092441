"""What a training run costs on this machine, in all its sessions: time and peak memory, measured.

Apart from the other outputs, which are the same bytes wherever and however often a run is repeated.
"""

import re
import resource
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from pipeline.hardware.device import Placement

_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Cost:
    """Sums over the sessions of a run, of the steps that were kept: a kill loses those since the last save.

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

    def figures(self, placement: Placement) -> dict[str, str | int | float]:
        """The content of metrics/cost.json."""
        return {
            "device": placement.device.type,
            "precision": str(placement.dtype).removeprefix("torch."),
            "sessions": self.sessions,
            "captions": self.captions,
            "seconds": round(self.seconds, 2),
            # The first steps are no measure of the others.
            "warm_up_seconds": round(self.first_seconds, 2),
            "captions_per_second": round(self._rate(), 3),
            "peak_memory_mb": round(self.peak_memory / 1e6, 1),
        }

    def _rate(self) -> float:
        after = self.captions - self.first_captions
        if not after:
            return self.captions / max(self.seconds, 1e-9)
        return after / max(self.seconds - self.first_seconds, 1e-9)


class CostMeter:
    """Measures a session from the moment it is made; captions are counted with `add`."""

    def __init__(self, placement: Placement, before: Cost) -> None:
        self._placement = placement
        self._before = before
        self._session = Cost(sessions=1)
        if placement.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(placement.device)
        self._start = time.perf_counter()

    def add(self, captions: int) -> None:
        """Count the captions of a step that was taken."""
        if not self._session.captions:
            seconds = time.perf_counter() - self._start
            self._session = replace(self._session, first_captions=captions, first_seconds=seconds)
        self._session = replace(self._session, captions=self._session.captions + captions)

    def total(self) -> Cost:
        """The cost up to now, earlier sessions included; a session without a step costs nothing."""
        if not self._session.captions:
            return self._before
        before, now = self._before, self._session
        return Cost(
            sessions=before.sessions + 1,
            captions=before.captions + now.captions,
            seconds=before.seconds + time.perf_counter() - self._start,
            first_captions=before.first_captions + now.first_captions,
            first_seconds=before.first_seconds + now.first_seconds,
            peak_memory=max(before.peak_memory, peak_memory(self._placement)),
        )


def peak_memory(placement: Placement) -> int:
    """Bytes: on CUDA the most that tensors took on the device, else the most the process had resident."""
    if placement.device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(placement.device))
    if _STATUS.exists():
        # Of this program alone: what getrusage says includes the process that it was forked from.
        (peak,) = re.findall(r"^VmHWM:\s+(\d+) kB$", _STATUS.read_text(encoding="utf-8"), re.M)
        return int(peak) * 1024
    # macOS counts in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
