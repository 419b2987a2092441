"""What reaches a user's terminal: our errors as sentences, of libraries their errors alone.

Used by the stages, by `vlm` and by the benchmarks.
"""

import functools
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pipeline.errors import PipelineError
from pipeline.files.disk_errors import cannot_write, is_full, system_error

_OUT_OF_GPU_MEMORY = (
    "the GPU's memory is full; finished work is kept. Close what else uses the GPU (`nvidia-smi`), or lower "
    "train.batch_size (and raise train.gradient_accumulation_steps as much) for train, "
    "runtime.encode_batch_size for encode, runtime.generate_batch_size for evaluate and regions, and repeat "
    "the command; the two of runtime re-run nothing."
)
# The hub's client logs each request, with the signed addresses that it is sent to.
_LIBRARIES = ("httpx", "httpx2", "py.warnings", "accelerate", "peft", "bitsandbytes", "matplotlib")


def report_user_errors(function: Callable[..., None]) -> Callable[..., None]:
    """Turn a PipelineError into one sentence and exit code 1, without a traceback.

    Do the same for a full disk and for full GPU memory, whichever library hits them.
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
    """Log our own messages from `level` on stderr, and of libraries errors only.

    Call this before the libraries are imported: some set their level on import, from a variable.
    """
    logging.basicConfig(level=level, format="  %(message)s", stream=sys.stderr)
    logging.captureWarnings(True)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    if not sys.stderr.isatty():
        # Bars would fill a log file.
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(logging.ERROR)
