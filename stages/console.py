"""What all stages share: their options, what they print, and how errors reach the user."""

import functools
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import click

from pipeline.errors import PipelineError
from pipeline.files.atomic import sweep
from pipeline.files.disk_errors import cannot_write, is_full, system_error
from pipeline.files.locks import held

SCRATCH = Path(".scratch")
_SMALLER = (
    "the GPU's memory is full; finished work is kept. Close what else uses the GPU (`nvidia-smi`), or lower "
    "train.batch_size (and raise train.gradient_accumulation_steps as much) for train, "
    "runtime.encode_batch_size for encode, runtime.generate_batch_size for evaluate and regions, and repeat "
    "the command; the two of runtime re-run nothing."
)
# The hub's client logs each request, with the signed addresses that it is sent to.
_LIBRARIES = ("httpx", "httpx2", "py.warnings", "accelerate", "peft", "bitsandbytes", "matplotlib")


def stage_command(function: Callable[[Path], None]) -> click.Command:
    """A click command for a stage: the function gets the path of the params file."""

    @functools.wraps(function)
    def run(params: Path) -> None:
        quiet_libraries(logging.INFO)
        try:
            function(params)
        except KeyboardInterrupt as error:
            raise click.ClickException(
                "interrupted; run the same command again. What a stage keeps (docs/reliability.md) is not "
                "done twice."
            ) from error

    option = click.option(
        "--params",
        type=click.Path(dir_okay=False, path_type=Path),
        default="params.yaml",
        show_default=True,
        help="The parameters of the run.",
    )
    return click.command()(option(with_sentences(run)))


def with_sentences(function: Callable[..., None]) -> Callable[..., None]:
    """Let a PipelineError reach the user as one sentence and exit code 1, without a traceback.

    The same for a disk that is full for somebody else's file: a library's, a log.
    """

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
        except PipelineError as error:
            raise click.ClickException(str(error)) from error
        except Exception as error:
            if _is_out_of_gpu_memory(error):
                raise click.ClickException(_SMALLER) from error
            refused = system_error(error)
            if refused is None or not is_full(refused):
                raise
            named = refused.filename if isinstance(refused.filename, str) else "."
            raise click.ClickException(str(cannot_write(Path(named), refused))) from error

    return run


def _is_out_of_gpu_memory(error: Exception) -> bool:
    torch = sys.modules.get("torch")  # where nobody has imported it, it raised nothing
    return torch is not None and isinstance(error, torch.OutOfMemoryError)


def quiet_libraries(level: int = logging.WARNING) -> None:
    """Our own facts from `level` on stderr; of the libraries, errors only.

    Before they are imported: some set their level then, from a variable.
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


@contextmanager
def announced(name: str, reads: list[Path], writes: list[Path]) -> Iterator[Callable[[str], None]]:
    """Print what a stage reads and writes, and close with a line: what, where, seconds.

    Meanwhile this process alone runs the stage here: nobody else writes its outputs or into its scratch
    folder. Yields a function that sets the closing line's "what". Raises PipelineError where another
    process runs the stage.
    """
    speaks = _speaks(name)
    if not speaks:
        logging.getLogger().setLevel(logging.ERROR)
    with held(SCRATCH / f"{name}.lock", name) if speaks else nullcontext():
        if speaks:
            sweep(writes, SCRATCH / name)
            click.echo(f"{name}: {', '.join(map(str, reads))} -> {', '.join(map(str, writes))}", err=True)
        start = time.monotonic()
        summary: dict[str, Any] = {"text": "done"}

        def close_with(text: str) -> None:
            summary["text"] = text

        yield close_with
        seconds = time.monotonic() - start
        if speaks:
            click.echo(f"{name}: {summary['text']} -> {writes[0]} ({seconds:.1f} s)", err=True)


def _speaks(stage: str) -> bool:
    """Of several processes of a training run the first one alone prints; no other stage has several."""
    return stage != "train" or os.environ.get("RANK", "0") == "0"
