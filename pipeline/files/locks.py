"""One run at a time: a lock file that names its holder and is free again however the holder ended."""

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

    The system itself frees the lock when its holder ends, killed or not, so there is nothing to clean up.
    Raises PipelineError where another process holds it, saying which, on which host and since when.
    """
    holder = path.with_name(f"{path.name}.json")
    lock = FileLock(path)
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            raise PipelineError(
                f"{what} is under way in this folder already, by {_holder(holder)}; wait until it has ended "
                f"or stop it, then run the command again (the lock is {path})."
            ) from error
    try:
        now = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        facts = {"process": os.getpid(), "host": socket.gethostname(), "since": now}
        with explain_write_errors(holder):
            # In place: half of it is read as "another process", and a kill leaves no other name behind.
            holder.write_text(canonical_json(facts), encoding="utf-8")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _holder(path: Path) -> str:
    """Who wrote the file beside the lock; a holder that has only just come has not written it yet."""
    try:
        facts = read_json(path)
        return f"process {facts['process']} on {facts['host']} since {facts['since']}"
    except (PipelineError, KeyError, TypeError):
        return "another process"
