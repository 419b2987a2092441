"""Memory: what the C library does with freed memory, and how much is available.

glibc maps and unmaps tensors of some megabytes at every operation, and the kernel clears their pages each
time. On a CPU that is most of a small convolutional network's time; docs/performance.md has the figures.
"""

import ctypes
import platform
from pathlib import Path

import psutil
import torch

# From glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_ONE_GIB = 1 << 30
_IS_GLIBC = platform.libc_ver()[0] == "glibc"


def keep_freed_memory() -> None:
    """Serve allocations up to 1 GiB from the heap, which keeps its memory until the process ends.

    Does nothing where the C library is not glibc.
    """
    if _IS_GLIBC:
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _ONE_GIB)
        libc.mallopt(_M_TRIM_THRESHOLD, 2 * _ONE_GIB - 1)


def return_freed_memory() -> None:
    """Return freed memory to the kernel, for instance after a model was loaded.

    Does nothing where the C library is not glibc.
    """
    if _IS_GLIBC:
        ctypes.CDLL(None).malloc_trim(0)


def free_memory(device: torch.device | None = None) -> float:
    """Return the bytes that are available: of a CUDA device, or of the main memory.

    PyTorch's own reserve on the device counts as free. A container's limit counts (cgroup v2).
    """
    if device is not None and device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(torch.cuda.mem_get_info(device)[0] + unused)
    free = float(psutil.virtual_memory().available)
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        return min(free, limit - int(Path("/sys/fs/cgroup/memory.current").read_text()))
    except (OSError, ValueError):  # no container, or no limit ("max")
        return free
