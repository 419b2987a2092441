"""Errors of the operating system while files are read or written, as sentences."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import PipelineError, UnreadableError

# How safetensors (Rust) and HDF5 write the system's error number in the text of their errors.
_NUMBER = re.compile(r"\(os error (\d+)\)|errno = (\d+)")


def system_error(error: Exception) -> OSError | None:
    """The system's error, even if a library wrapped it in another; else None.

    An OSError without a number (`errno`) is a library's: HDF5 raises it for damaged files too.
    """
    match = _NUMBER.search(str(error))
    number = int(match[1] or match[2]) if match else 0
    if isinstance(error, OSError) and (error.errno or not number):
        return error
    return OSError(number, os.strerror(number)) if number else None


def is_full(error: OSError) -> bool:
    """Whether there is no room: no space, no quota, or a limit on file sizes (`ulimit -f`)."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def cannot_write(path: Path, error: OSError) -> PipelineError:
    """The sentence about a file that could not be written; if there is no room, with the free space."""
    # Of the system's number, not the library's text: HDF5 writes addresses and times into it.
    reason = os.strerror(error.errno) if error.errno else " ".join(str(error).split()).rstrip(".")
    if not is_full(error):
        return PipelineError(f"cannot write {path}: {reason}.")
    existing = next(folder for folder in path.absolute().parents if folder.is_dir())
    return PipelineError(
        f"cannot write {path}: {reason} ({shutil.disk_usage(existing).free / 1e6:,.1f} MB free there). "
        "Fix: make room and run the command again; old files and finished work are kept."
    )


@contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
    """Turn the system's errors while `path` is written into a PipelineError."""
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:
        if refused := system_error(error):
            raise cannot_write(path, refused) from error
        raise


@contextmanager
def explain_read_errors(path: Path) -> Iterator[None]:
    """Turn the system's errors while `path` is read into an UnreadableError.

    A file that the system cannot read (a failing disk, permissions, no file handles left) may be good, so it
    is never treated as damaged and never deleted.
    """
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:
        refused = system_error(error)
        if refused is None or not refused.errno:
            raise
        raise UnreadableError(
            f"cannot read {path}: {os.strerror(refused.errno)}; it is left as it is. "
            "Fix: repair the disk or the permissions and run the command again."
        ) from error


def usual_mode(is_folder: bool = False) -> int:
    """The mode of new files or folders by the user's umask; temporary ones are created private."""
    umask = os.umask(0)
    os.umask(umask)
    return (0o777 if is_folder else 0o666) & ~umask
