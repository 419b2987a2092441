"""A stage on the command line: its one option, its lock, and what it prints when it starts and ends."""

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
from stages.errors import quiet_libraries, report_user_errors

SCRATCH = Path(".scratch")


def stage_command(function: Callable[[Path], None]) -> click.Command:
    """Make a click command of a stage: the function gets the path of the params file."""

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
    return click.command()(option(report_user_errors(run)))


@contextmanager
def stage_banner(name: str, reads: list[Path], writes: list[Path]) -> Iterator[Callable[[str], None]]:
    """Print what a stage reads and writes, and close with a line: what, where, seconds.

    Yields a function that sets the closing line's "what". The stage's lock is held meanwhile, so that no
    other process writes its outputs or its scratch folder. Raises PipelineError where another process
    runs the stage.
    """
    # Of several processes of a training run the first one alone prints and locks; no other stage has several.
    if name == "train" and os.environ.get("RANK", "0") != "0":
        logging.getLogger().setLevel(logging.ERROR)
        yield lambda _: None
        return
    with file_lock(SCRATCH / f"{name}.lock", name):
        sweep(writes, SCRATCH / name)
        click.echo(f"{name}: {', '.join(map(str, reads))} -> {', '.join(map(str, writes))}", err=True)
        start = time.monotonic()
        summary = ["done"]
        yield summary.append
        seconds = time.monotonic() - start
        click.echo(f"{name}: {summary[-1]} -> {writes[0]} ({seconds:.1f} s)", err=True)
