"""The folder that an export leaves: complete, or absent."""

import glob
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.files.disk_errors import explain_write_errors, usual_mode
from pipeline.files.locks import file_lock


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `out` when the block ends without an exception.

    It lies next to `out`; what a killed export left there is removed. Raises PipelineError when `out` is a
    file or not empty, another process exports to it, or the disk refuses.
    """
    out = out.resolve()
    require_free(out)
    # Next to the output, where every process that exports to it looks.
    lock = out.parent / f".{out.name}.lock"
    prefix = f".{out.name}.vlm-export-"
    with file_lock(lock, f"an export to {out}"), explain_write_errors(out):
        for left_over in out.parent.glob(f"{glob.escape(prefix)}*"):
            shutil.rmtree(left_over, ignore_errors=True)
        temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=prefix))
        try:
            yield temporary
            require_free(out)
            _make_readable(temporary)
            # Renaming replaces an empty folder, and fails on one that somebody has filled by now.
            temporary.rename(out)
        except OSError as error:
            # An export also reads models.
            name = error.filename
            if isinstance(name, str) and not Path(name).absolute().is_relative_to(temporary):
                raise PipelineError(f"Cannot read {name}: {error.strerror}.") from error
            raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            lock.unlink(missing_ok=True)


def require_free(out: Path) -> None:
    """Raise PipelineError where `out` is a file, or a folder that is not empty."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        what = "is not empty" if out.is_dir() else "is a file"
        raise PipelineError(f"{out} {what}. Fix: give the name of a new or empty folder.")


def _make_readable(folder: Path) -> None:
    """Give files and folders the user's usual modes: temporary folders and safetensors files are private."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(usual_mode(is_folder=path.is_dir()))
