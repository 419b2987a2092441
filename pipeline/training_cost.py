"""What the last session of training cost on this machine: time and peak memory, measured.

Apart from the other outputs, which are the same bytes wherever and however often a run is repeated.
"""

import resource
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import torch

from pipeline.device import Placement
from pipeline.records import read_json, write_json


class CostMeter:
    """Measures what happens while it is entered; captions are counted with `add`."""

    def __init__(self, placement: Placement) -> None:
        self._placement = placement
        self._captions = 0
        self._first_captions = 0
        self._first_step = 0.0
        self._seconds = 0.0
        self._start = time.perf_counter()

    def __enter__(self) -> Self:
        if self._placement.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._placement.device)
        self._start = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._seconds = time.perf_counter() - self._start

    def add(self, captions: int) -> None:
        """Count the captions of a step that was taken."""
        if not self._captions:
            self._first_captions = captions
            self._first_step = time.perf_counter() - self._start
        self._captions += captions

    def write(self, path: Path, kept: Path) -> None:
        """Write the figures to `path` and keep them in `kept`.

        Where nothing was trained, those kept from the last time are written: a run that only found all its
        epochs done would have nothing to say.
        """
        if self._captions or not kept.exists():
            write_json(kept, self._figures())
        write_json(path, read_json(kept))

    def _figures(self) -> dict[str, str | int | float]:
        return {
            "device": self._placement.device.type,
            "precision": str(self._placement.dtype).removeprefix("torch."),
            "captions": self._captions,
            "seconds": round(self._seconds, 2),
            # The first step, in which layers are compiled and caches filled, is no measure of the others.
            "warm_up_seconds": round(self._first_step, 2),
            "captions_per_second": round(self._rate(), 3),
            "peak_memory_mb": round(peak_memory(self._placement) / 1e6, 1),
        }

    def _rate(self) -> float:
        after = self._captions - self._first_captions
        if not after:
            return self._captions / max(self._seconds, 1e-9)
        return after / (self._seconds - self._first_step)


def peak_memory(placement: Placement) -> int:
    """Bytes: on CUDA the most that tensors took on the device, else the most the process had resident."""
    if placement.device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(placement.device))
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
