"""The folder that an export leaves: complete, or not there at all."""

import glob
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from pipeline.errors import PipelineError
from pipeline.files.disk_errors import cannot_write, explain_write_errors, system_error, usual_mode
from pipeline.files.locks import file_lock

# What licences ask to be handed on with the weights; `*.txt` of a hub model is downloaded with it.
_LICENCE_FILES = ("LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out` that becomes `out` when the block ends without an exception.

    What a killed export to `out` left beside it is removed. Raises PipelineError when `out` is a file or
    holds anything, another process exports to it, or the disk refuses.
    """
    out = out.resolve()
    _require_free(out)
    # Beside the output, where every process that exports to it looks.
    lock = out.parent / f".{out.name}.lock"
    prefix = f".{out.name}.vlm-export-"
    with file_lock(lock, f"an export to {out}"):
        with explain_write_errors(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            for left in out.parent.glob(f"{glob.escape(prefix)}*"):
                shutil.rmtree(left, ignore_errors=True)
            temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=prefix))
        try:
            yield temporary
            _require_free(out)
            _make_readable(temporary)
            # Renaming replaces an empty folder, and fails on one that somebody has filled by now.
            temporary.rename(out)
        except OSError as error:
            raise _what_failed(error, temporary, out) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def write_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write tensors as a safetensors file. Raises OSError when the disk refuses, which `new_folder` tells."""
    try:
        save_file(dict(weights), path, {"format": "pt"})
    except SafetensorError as error:
        raise system_error(error) or PipelineError(f"cannot write {path.name}: {error}.") from error


def copy_licences(source: Path, target: Path) -> None:
    """Copy a model folder's licence files, if it has any, into `target`."""
    found = {path for name in _LICENCE_FILES for path in source.glob(name) if path.is_file()}
    for path in sorted(found):
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / path.name)


def _what_failed(error: OSError, temporary: Path, out: Path) -> PipelineError:
    """A sentence on what the block met: an export reads models as well as it writes."""
    reason = " ".join(str(error.strerror or error).split()).rstrip(".")
    name = error.filename
    if isinstance(name, str) and not Path(name).absolute().is_relative_to(temporary):
        return PipelineError(f"cannot read {name}: {reason}.")
    # Without a number it is none of the system's, but what a library says of a model's files.
    return cannot_write(out, error) if error.errno is not None else PipelineError(f"cannot export: {reason}.")


def _require_free(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise PipelineError(f"{out} is a file; give the name of a new or empty folder.")
    if out.is_dir() and any(out.iterdir()):
        raise PipelineError(f"{out} is not empty; give the name of a new or empty folder.")


def _make_readable(folder: Path) -> None:
    """Give files and folders the user's usual modes: temporary folders and safetensors files are private."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(usual_mode(is_folder=path.is_dir()))
