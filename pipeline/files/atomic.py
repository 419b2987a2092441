"""Files and folders that are being built: hidden next to the place that they take once they are complete.

A reader sees the old or the new, never half. The next run finds what a killed one left by its name, and
sweeps it away.
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
    """Yield an empty file that becomes `path` when the block ends without an exception, and else is removed.

    It lies in the same folder, because renaming is atomic only within a file system. Raises PipelineError
    where the disk refuses.
    """
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=_prefix(path))
        os.close(handle)
    temporary = Path(name)
    try:
        with explain_write_errors(path):
            yield temporary
            # Before the name: after a power failure it must not stand for a file without its content.
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.chmod(usual_mode())
            temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `path` when the block ends without an exception.

    With an exception, at whatever moment, the old folder is in its place. Raises PipelineError where the
    disk refuses.
    """
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=_prefix(path)))
    old = temporary.with_name(f"{temporary.name}{_OLD}")
    try:
        with explain_write_errors(path):
            yield temporary
            temporary.chmod(usual_mode(of_folder=True))
            if path.exists():
                path.rename(old)
            temporary.rename(path)
    finally:
        # Between the two renames there is neither; Ctrl-C may come there too.
        if old.exists() and not path.exists():
            old.rename(path)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def sweep(outputs: Iterable[Path], scratch: Path) -> None:
    """Remove what killed runs left of `outputs` and in `scratch`; nobody else may be writing there.

    A folder that was killed between its two renames gets its old content back.
    """
    left = list(scratch.rglob(".*"))
    for output in outputs:
        for path in sorted(output.parent.glob(f"{_prefix(output)}*")):
            if path.suffix == _OLD and not output.exists():
                path.rename(output)
            else:
                left.append(path)
    for path in left:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _prefix(path: Path) -> str:
    return f".{path.name}."
