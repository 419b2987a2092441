"""The folder that an export leaves: complete, or absent."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.files.disk_errors import explain_write_errors, usual_mode
from pipeline.files.locks import file_lock


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yield a hidden folder that becomes `out` when the block ends without an exception.

    It lies next to `out`; what a killed export left there is removed. Raises PipelineError when `out` is a
    file or not empty, another process exports to it, or the disk refuses.
    """
    out = out.resolve()
    require_free(out)
    # Next to the output, where every process that exports to it looks.
    lock, partial = (out.with_name(f".{out.name}.{name}") for name in ("lock", "partial-export"))
    with file_lock(lock, f"an export to {out}"), explain_write_errors(out):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            yield partial
            for path in partial.rglob("*"):  # safetensors files are private
                path.chmod(usual_mode(is_folder=path.is_dir()))
            # Renaming replaces an empty folder, and fails on one that somebody has filled by now.
            partial.rename(out)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            lock.unlink(missing_ok=True)


def require_free(out: Path) -> None:
    """Raise PipelineError where `out` is a file, or a folder that is not empty."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        what = "is not empty" if out.is_dir() else "is a file"
        raise PipelineError(f"{out} {what}. Fix: give the name of a new or empty folder.")
