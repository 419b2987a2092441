"""Write files and folders atomically: under a hidden name next to their place, then renamed.

A reader sees the old or the new content, never a part. The next run finds leftovers of a killed run by their
names and removes them.
"""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.files.disk_errors import explain_write_errors, usual_mode

_OLD = ".old"


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Yield an empty file that becomes `path` when the block ends without an exception, else is removed.

    It lies in the same folder, because renaming is atomic only within a file system. Raises PipelineError if
    the file cannot be written.
    """
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=_prefix(path))
        os.close(handle)
    temporary = Path(name)
    try:
        with explain_write_errors(path):
            yield temporary
            # Before renaming: after a power failure, the name must not stand for a file without its content.
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.chmod(usual_mode())
            temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that replaces `path` when the block ends without an exception.

    After an exception, at any moment, the old folder is in its place. Raises PipelineError if the folder
    cannot be written.
    """
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=_prefix(path)))
    old = temporary.with_name(f"{temporary.name}{_OLD}")
    try:
        with explain_write_errors(path):
            yield temporary
            temporary.chmod(usual_mode(is_folder=True))
            if path.exists():
                path.rename(old)
            temporary.rename(path)
    finally:
        # Ctrl-C may come between the two renames, when neither folder is in place.
        if old.exists() and not path.exists():
            old.rename(path)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def sweep(outputs: Iterable[Path], scratch: Path) -> None:
    """Remove leftovers of killed runs next to `outputs` and in `scratch`; no other process may write there.

    The old content of a folder is put back if the run was killed between the two renames.
    """
    leftovers = list(scratch.rglob(".*"))
    for output in outputs:
        for path in sorted(output.parent.glob(f"{_prefix(output)}*")):
            if path.suffix == _OLD and not output.exists():
                path.rename(output)
            else:
                leftovers.append(path)
    for path in leftovers:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _prefix(path: Path) -> str:
    return f".{path.name}."
