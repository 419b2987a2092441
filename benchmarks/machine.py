"""What the machine can do: the yardstick that other measurements are held against."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import click
import torch

from pipeline.hardware.device import Placement

# Large enough for the caches to be used well, as the library's best case.
_SIZE, _SIZE_ON_A_GPU = 2048, 8192


def matmul_rate(placement: Placement, seconds: float = 3.0) -> float:
    """Floating-point operations a second of a product of two square matrices: the median.

    In the placement's type, 2048 x 2048 on a CPU and 8192 x 8192 on a GPU.
    """
    size = _SIZE if placement.device.type == "cpu" else _SIZE_ON_A_GPU
    first, second = torch.randn(2, size, size, device=placement.device, dtype=placement.dtype)
    rates = []
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop:
        start = time.perf_counter()
        torch.mm(first, second)
        wait_for(placement)
        rates.append(2 * size**3 / (time.perf_counter() - start))
    return statistics.median(rates)


def wait_for(placement: Placement) -> None:
    """Return when the device has done all that it was given: a GPU computes behind the program's back."""
    if placement.device.type == "cuda":
        torch.cuda.synchronize(placement.device)


def in_a_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Each in a process of its own: a peak of memory is the process's, and never falls again."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def describe(placement: Placement) -> dict[str, Any]:
    """The facts that a figure depends on."""
    return {
        "device": str(placement),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
    }


def print_figures(figures: dict[str, float], placement: Placement) -> None:
    """Print, as one line of JSON, a side's figures and how near it came to the machine's best rate.

    `figures` has `gflop_per_caption` and `captions_per_second`; the rate is measured in this process.
    """
    rate = matmul_rate(placement)
    achieved = figures["gflop_per_caption"] * 1e9 * figures["captions_per_second"]
    click.echo(json.dumps({**figures, "matmul_gflops": rate / 1e9, "utilisation": achieved / rate}))
