"""A stage on the command line: its parameters, its lock, and what it prints when it starts and ends."""

import functools
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from pipeline.files.atomic import sweep
from pipeline.files.locks import file_lock
from pipeline.params.loader import load_params
from pipeline.params.schema import Params
from stages.errors import quiet_libraries, report_user_errors

PARAMS = Path("params.yaml")
SCRATCH = Path(".scratch")


def stage_command(function: Callable[[Params], None]) -> click.Command:
    """Make a click command of a stage, a function of the parameters."""

    @functools.wraps(function)
    def run() -> None:
        quiet_libraries(logging.INFO)
        try:
            function(load_params(PARAMS))
        except KeyboardInterrupt as error:
            raise click.ClickException(
                "interrupted; run the same command again. Finished work is kept (docs/reliability.md)."
            ) from error

    return click.command()(report_user_errors(run))


@contextmanager
def stage_banner(name: str, reads: list[Path], writes: list[Path]) -> Iterator[Callable[[str], None]]:
    """Print what a stage reads and writes.

    Yields a function that prints the closing line: what it is given, where, seconds. Holds the stage's lock
    meanwhile, so that no other process writes its outputs or its scratch folder. Raises PipelineError if
    another process runs the stage.
    """
    # Only the first of several training processes prints and locks; no other stage has several.
    if name == "train" and os.environ.get("RANK", "0") != "0":
        logging.getLogger().setLevel(logging.ERROR)
        yield lambda _: None
        return
    with file_lock(SCRATCH / f"{name}.lock", name):
        sweep(writes, SCRATCH / name)
        click.echo(f"{name}: {', '.join(map(str, reads))} -> {', '.join(map(str, writes))}", err=True)
        start = time.monotonic()
        yield lambda what: click.echo(
            f"{name}: {what} -> {writes[0]} ({time.monotonic() - start:.1f} s)", err=True
        )
