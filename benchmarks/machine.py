"""What the machine can do: the yardstick that other measurements are held against."""

import json
import os
import platform
import statistics
import time
from typing import Any

import click
import torch

# Large enough for the caches to be used well, as the library's best case.
_SIZE = 2048


def matmul_rate(seconds: float = 3.0) -> float:
    """Floating-point operations a second of a float32 product of two 2048 x 2048 matrices: the median."""
    first, second = torch.randn(_SIZE, _SIZE), torch.randn(_SIZE, _SIZE)
    rates = []
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop:
        start = time.perf_counter()
        torch.mm(first, second)
        rates.append(2 * _SIZE**3 / (time.perf_counter() - start))
    return statistics.median(rates)


def describe() -> dict[str, Any]:
    """The facts that a figure depends on."""
    return {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
    }


def print_figures(figures: dict[str, float]) -> None:
    """Print, as one line of JSON, a side's figures and how near it came to the machine's best rate.

    `figures` has `gflop_per_caption` and `captions_per_second`; the rate is measured in this process.
    """
    rate = matmul_rate()
    achieved = figures["gflop_per_caption"] * 1e9 * figures["captions_per_second"]
    click.echo(json.dumps({**figures, "matmul_gflops": rate / 1e9, "utilisation": achieved / rate}))
