"""Options that several commands share, and what they take from the project's params.yaml."""

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pipeline.params.schema import Params

PARAMS = Path("params.yaml")

checkpoint_option = click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    default="data/best.safetensors",
    show_default=True,
    help="What training saved: a file, or a folder with best.safetensors.",
)


def _known_device(_context: click.Context, _option: click.Parameter, value: str) -> str:
    if re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value) is None:
        raise click.BadParameter(f"{value!r} is none; allowed: auto, cpu, cuda, cuda:N, mps.")
    return value


class Finite(click.FloatRange):
    """Numbers of a range; `nan`, which click lets pass, is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number, or a usage error."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is no finite number.", param, ctx)
        return number


# Pillow refuses more by itself.
MEGAPIXELS = Finite(0, 178, min_open=True)

device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    callback=_known_device,
    help="Where to compute: auto, cpu, cuda, cuda:N or mps.",
)


def project_params() -> "Params | None":
    """The parameters of the project in the current folder; None outside of one.

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
    """Where the project unpacks models from wheels; None: the user's cache folder."""
    cache = params.runtime.model_cache if params else None
    return Path(cache) if cache else None
