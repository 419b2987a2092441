"""A disk without room: the error names the path and the free space, and nothing that was there is harmed."""

import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from tests.faults import child
from tests.faults.child import Fault
from tests.faults.lab import Lab, Tally

_FREE = re.compile(r"cannot write \S+: .+ \([\d,.]+ MB free there\)\. Fix: make room")


def leave_no_room(lab: Lab, stage: str, small_disk: bool, times: int) -> Tally:
    """Let no file grow beyond a size that the stage needs (RLIMIT_FSIZE), or give the disk less room."""
    tally = Tally(f"{stage}: {'full disk' if small_disk else 'file size limit'}")
    rng = random.Random(tally.kind)
    sizes = [len(content or b"") for content in lab.outputs(lab.state(None), stage).values()]
    for _ in range(times):
        disk = _mounted(lab.folder / "small_disk") if small_disk else nullcontext()
        with lab.project(stage) as folder, disk as mounted:
            if mounted:
                folder = shutil.copytree(folder, mounted, dirs_exist_ok=True)
                taken = os.statvfs(folder)
                used = (taken.f_blocks - taken.f_bfree) * taken.f_frsize
                _resize(folder, used + rng.randrange(max(1, sum(sizes) // 2)))
            limit = None if mounted else rng.randrange(max(sizes))
            ended = child.run(folder, stage, Fault(file_limit=limit))
            told = ended.refused and _FREE.search(ended.printed) is not None and lab.intact(folder, stage)
            tally.check(told or lab.right(folder, stage, ended), ended.last_line)
            if mounted:
                _resize(folder, 1 << 30)
            done = child.run(folder, stage)
            tally.require(lab.right(folder, stage, done), f"with room again: {done.last_line}")
    return tally


def why_no_small_disk(folder: Path) -> str | None:
    """Why no file system can be mounted here; None where it can."""
    if os.geteuid():
        return "mounting a small file system needs root"
    try:
        with _mounted(folder / "small_disk"):
            return None
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        return f"a small file system cannot be mounted here ({error})"


@contextmanager
def _mounted(folder: Path) -> Iterator[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=True, capture_output=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def _resize(folder: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", folder], check=True)
