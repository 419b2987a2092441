"""Files and folders in the making: hidden beside the place that they take once they are complete.

A reader, or a crash, sees the old or the new, never half. What a killed run leaves behind is found by its
name and swept away by the next run.
"""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.files.disk_errors import usual_mode, writing


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """An empty file that becomes `path` when the block ends without an exception, and else is removed.

    It lies in the same folder, because renaming is atomic only within a file system. Raises PipelineError
    where the disk refuses.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=_prefix(path))
        os.close(handle)
    temporary = Path(name)
    try:
        with writing(path):
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
    """An empty folder that takes the place of `path` when the block ends without an exception.

    With an exception the old one stays as it was. Raises PipelineError where the disk refuses.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=_prefix(path)))
    old = temporary.with_name(f"{temporary.name}.old")
    try:
        with writing(path):
            yield temporary
            temporary.chmod(usual_mode(of_folder=True))
            if path.exists():
                path.rename(old)
            temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def sweep(outputs: Iterable[Path], scratch: Path) -> None:
    """Remove what killed runs left of `outputs` and in `scratch`; nobody else may be writing there."""
    left = [path for output in outputs for path in output.parent.glob(f"{_prefix(output)}*")]
    left += scratch.rglob(".*")
    for path in left:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _prefix(path: Path) -> str:
    return f".{path.name}."
