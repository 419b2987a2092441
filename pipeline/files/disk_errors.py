"""What the system says when it does not let a file be written or read, as a sentence."""

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from pipeline.errors import PipelineError, UnreadableError

# No space, no quota, and a limit on the size of files (`ulimit -f`).
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# How safetensors (Rust) and HDF5 put the system's number into errors that are none of the system's.
_NUMBER = re.compile(r"\(os error (\d+)\)|errno = (\d+)")


def system_error(error: Exception) -> OSError | None:
    """The system's own error, also where a library wrapped it in one of its own; else None.

    Without a number (`errno`) an OSError is a library's: HDF5 raises it for damaged files too.
    """
    found = _NUMBER.search(str(error))
    number = int(found[1] or found[2]) if found else 0
    if isinstance(error, OSError) and (error.errno or not number):
        return error
    return OSError(number, os.strerror(number)) if number else None


def is_full(error: OSError) -> bool:
    """Whether the system refused to write because there is no room."""
    return error.errno in _FULL


def cannot_write(path: Path, error: OSError) -> PipelineError:
    """The sentence about a file that could not be written; where there is no room, with the free space."""
    # Of the system's number, not the library's text: HDF5 puts addresses and times into its own.
    reason = os.strerror(error.errno) if error.errno else " ".join(str(error).split()).rstrip(".")
    if not is_full(error):
        return PipelineError(f"cannot write {path}: {reason}.")
    existing = next(folder for folder in path.absolute().parents if folder.is_dir())
    return PipelineError(
        f"cannot write {path}: {reason} ({shutil.disk_usage(existing).free / 1e6:,.1f} MB free there); make "
        "room and run the command again: what was there before is unharmed, and finished work is kept."
    )


def explain_write_errors(path: Path) -> AbstractContextManager[None]:
    """Turn what the system raises while `path` is written into a PipelineError."""
    return _explain(lambda refused: cannot_write(path, refused))


def explain_read_errors(path: Path) -> AbstractContextManager[None]:
    """Turn what the system raises while `path` is read into an UnreadableError.

    A file that the system cannot read (a disk that does not answer, rights, no file handles left) may be
    good. So it is never taken for damaged, and never deleted.
    """

    def sentence(refused: OSError) -> PipelineError | None:
        if not refused.errno:
            return None
        return UnreadableError(
            f"cannot read {path}: {os.strerror(refused.errno)}; it is left as it is: mend that, and run the "
            "command again."
        )

    return _explain(sentence)


@contextmanager
def _explain(sentence: Callable[[OSError], PipelineError | None]) -> Iterator[None]:
    """Raise what `sentence` makes of an error of the system; other errors, and those without one, pass."""
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:
        refused = system_error(error)
        explained = sentence(refused) if refused else None
        if explained is None:
            raise
        raise explained from error


def usual_mode(of_folder: bool = False) -> int:
    """The mode that new files, or folders, get by the user's umask; temporary ones are made private."""
    umask = os.umask(0)
    os.umask(umask)
    return (0o777 if of_folder else 0o666) & ~umask
