"""The folder that an export leaves: complete, or not there at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from pipeline.errors import PipelineError

# What licences ask to be handed on with the weights; `*.txt` of a hub model is downloaded with it.
_LICENCE_FILES = ("LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out` that becomes `out` when the block ends without an exception.

    Raises PipelineError when `out` is a file or holds anything, or the disk refuses.
    """
    out = out.resolve()
    _require_free(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    except OSError as error:
        raise PipelineError(f"cannot write {out}: {error.strerror or error}.") from error
    try:
        yield temporary
        _require_free(out)
        _make_readable(temporary)
        # Renaming replaces an empty folder, and fails on one that somebody has filled by now.
        temporary.rename(out)
    except OSError as error:
        raise PipelineError(f"cannot write {out}: {error.strerror or error}.") from error
    except SafetensorError as error:
        raise PipelineError(f"cannot write {out}: {error}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def copy_licences(source: Path, target: Path) -> None:
    """Copy a model folder's licence files, if it has any, into `target`."""
    for path in sorted(path for name in _LICENCE_FILES for path in source.glob(name)):
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / path.name)


def _require_free(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise PipelineError(f"{out} is a file; give the name of a new or empty folder.")
    if out.is_dir() and any(out.iterdir()):
        raise PipelineError(f"{out} is not empty; give the name of a new or empty folder.")


def _make_readable(folder: Path) -> None:
    """Give files and folders the user's usual modes: temporary folders and safetensors files are private."""
    umask = os.umask(0)
    os.umask(umask)
    for path in (folder, *folder.rglob("*")):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)
