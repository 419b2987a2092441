"""What the system says when it does not let a file be written or read, as a sentence."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import PipelineError

# No space, no quota, and a limit on the size of files (`ulimit -f`).
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# How safetensors (Rust) and HDF5 put the system's number into errors that are none of the system's.
_NUMBER = re.compile(r"\(os error (\d+)\)|errno = (\d+)")


def system_error(error: Exception) -> OSError | None:
    """What the system refused, also where a library wrapped it in an error of its own; else None."""
    if isinstance(error, OSError):
        return error
    found = _NUMBER.search(str(error))
    if found is None:
        return None
    number = int(found[1] or found[2])
    return OSError(number, os.strerror(number))


def is_full(error: OSError) -> bool:
    """Whether the system refused to write because there is no room."""
    return error.errno in _FULL


def cannot_write(path: Path, error: OSError) -> PipelineError:
    """The sentence about a file that could not be written; where there is no room, with the free space."""
    # Of the system's number, not the library's text: HDF5 puts addresses and times into its own.
    reason = os.strerror(error.errno) if error.errno else " ".join(str(error).split()).rstrip(".")
    if not is_full(error):
        return PipelineError(f"cannot write {path}: {reason}.")
    return PipelineError(
        f"cannot write {path}: {reason} ({_free(path)} free there); make room and run the command again: "
        "what was there before is unharmed, and finished work is kept."
    )


def require_readable(path: Path) -> None:
    """PipelineError where the system refuses to read `path` now: what lies there may be good.

    Libraries report it as if the file were damaged or missing. A file that does not exist is no error.
    """
    try:
        with path.open("rb"):
            pass
    except FileNotFoundError:
        return
    except OSError as error:
        raise PipelineError(
            f"cannot read {path}: {error.strerror or error}; it is left as it is: mend that, and run the "
            "command again."
        ) from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system raises while `path` is written into its sentence."""
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:
        refused = system_error(error)
        if refused is None:
            raise
        raise cannot_write(path, refused) from error


def usual_mode(of_folder: bool = False) -> int:
    """The mode that new files, or folders, get by the user's umask; temporary ones are made private."""
    umask = os.umask(0)
    os.umask(umask)
    return (0o777 if of_folder else 0o666) & ~umask


def _free(path: Path) -> str:
    existing = next(folder for folder in path.absolute().parents if folder.is_dir())
    return f"{shutil.disk_usage(existing).free / 1e6:,.1f} MB"
