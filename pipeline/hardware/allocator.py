"""What the C library does with freed memory, where it is glibc: keep it, or give it back once.

Tensors of some megabytes are mapped and unmapped by glibc at every operation, and the kernel clears their
pages each time. On a CPU that is most of a small convolutional network's time; docs/performance.md has
the figures.
"""

import ctypes
import platform

# From glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_ONE_GIB = 1 << 30


def keep_freed_memory() -> None:
    """Serve allocations up to 1 GiB from the heap and give none of it back until the process ends.

    Does nothing where the C library is another.
    """
    if _is_glibc():
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _ONE_GIB)
        libc.mallopt(_M_TRIM_THRESHOLD, 2 * _ONE_GIB - 1)


def return_freed_memory() -> None:
    """Give memory that was freed so far back to the kernel: what loading a model leaves, for instance.

    Does nothing where the C library is another.
    """
    if _is_glibc():
        ctypes.CDLL(None).malloc_trim(0)


def _is_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"
