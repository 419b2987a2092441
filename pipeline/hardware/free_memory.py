"""How much memory a process can still have."""

from pathlib import Path

import psutil


def free_memory() -> float:
    """Bytes that can be had, within the limit of a container (cgroup v2)."""
    free = float(psutil.virtual_memory().available)
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        return min(free, limit - int(Path("/sys/fs/cgroup/memory.current").read_text()))
    except (OSError, ValueError):  # no container, or no limit ("max")
        return free
