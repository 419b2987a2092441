"""What reaches a user's terminal: our errors as sentences, and of libraries only their errors.

Used by the stages, by `vlm` and by the benchmarks.
"""

import functools
import json
import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from pipeline.errors import PipelineError
from pipeline.files.disk_errors import cannot_write, is_full, system_error

_OUT_OF_GPU_MEMORY = (
    "the GPU's memory is full; finished work is kept. Fix: close other programs on it (`nvidia-smi`), or "
    "lower train.batch_size (and raise train.gradient_accumulation_steps as much) for train, "
    "runtime.encode_batch_size for encode, runtime.generate_batch_size for evaluate, and run the command "
    "again."
)
# The hub's client logs each request, with signed addresses.
_LIBRARIES = ("httpx", "httpx2", "py.warnings", "accelerate", "peft", "bitsandbytes", "matplotlib")


def report_user_errors(function: Callable[..., None]) -> Callable[..., None]:
    """Turn a PipelineError into one sentence and exit code 1, without a traceback.

    Do the same for a full disk and for full GPU memory, in whichever library they occur.
    """

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
        except PipelineError as error:
            raise click.ClickException(str(error)) from error
        except Exception as error:
            torch = sys.modules.get("torch")  # a command that never imported it cannot have filled the GPU
            if torch is not None and isinstance(error, torch.OutOfMemoryError):
                raise click.ClickException(_OUT_OF_GPU_MEMORY) from error
            cause = system_error(error)
            if cause is None or not is_full(cause):
                raise
            path = cause.filename if isinstance(cause.filename, str) else "."
            raise click.ClickException(str(cannot_write(Path(path), cause))) from error

    return run


def quiet_libraries(level: int = logging.WARNING) -> None:
    """Log our own messages from `level` on stderr, and of libraries only errors.

    Call this before the libraries are imported: some set their level on import, from a variable.
    """
    logging.basicConfig(level=level, format="  %(message)s", stream=sys.stderr)
    logging.captureWarnings(True)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    if not sys.stderr.isatty():  # bars would fill a log file
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(logging.ERROR)


def running_dvc(folder: Path) -> str | None:
    """Name the DVC process that is running stages of the project in `folder`, or return None.

    DVC lists the files that its processes read and write, with process id and command, in .dvc/tmp/rwlock.
    """
    import psutil

    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        locks = json.loads((folder / ".dvc/tmp/rwlock").read_text(encoding="utf-8"))
        readers = [reader for several in locks["read"].values() for reader in several]
        for process in [*locks["write"].values(), *readers]:
            if psutil.pid_exists(process["pid"]):
                return f"process {process['pid']}: {process['cmd']}"
    return None


def refuse_while_dvc_runs(missing: Path, remedy: str) -> None:
    """Raise PipelineError if DVC is at work: it removes outputs, such as `missing`, before it writes them."""
    if running := running_dvc(Path()):
        raise PipelineError(f"{missing} does not exist yet: DVC is at work ({running}). Fix: {remedy}.")
