"""Lock files: one run at a time; a lock names its holder and is free when the holder ends."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.errors import PipelineError
from pipeline.files.disk_errors import explain_write_errors
from pipeline.files.json_files import canonical_json, read_json


@contextmanager
def file_lock(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file `path` while the block runs; `what` names the work in the error.

    The system frees the lock when its holder ends, killed or not. Raises PipelineError if another process
    holds it, naming the process, its host and the time.
    """
    holder = path.with_name(f"{path.name}.json")
    lock = FileLock(path)
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            raise PipelineError(
                f"{what} is under way in this folder already, by {_holder(holder)} (lock: {path}). "
                "Fix: wait until it ends or stop it, then run the command again."
            ) from error
    try:
        now = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        signature = {"process": os.getpid(), "host": socket.gethostname(), "since": now}
        with explain_write_errors(holder):
            # Not atomically: a part of it is read as "another process", and a kill leaves no temporary file.
            holder.write_text(canonical_json(signature), encoding="utf-8")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _holder(path: Path) -> str:
    """The holder by the file next to the lock, which a holder that has just started has not written yet."""
    try:
        signature = read_json(path)
        return f"process {signature['process']} on {signature['host']} since {signature['since']}"
    except (PipelineError, KeyError, TypeError):
        return "another process"
