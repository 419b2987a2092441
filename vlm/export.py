"""`vlm export`: a trained model as a folder for other programs."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from stages.errors import quiet_libraries, report_user_errors
from vlm.options import checkpoint_option, find_checkpoint_or_explain, model_cache, project_params

if TYPE_CHECKING:
    from pipeline.params.schema import DataParams

_METRICS = Path("metrics/evaluate.json")


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "kind",
    type=click.Choice(["llava"]),
    required=True,
    help="llava: the whole model, for transformers and vLLM.",
)
@checkpoint_option
@click.option(
    "--metrics",
    type=click.Path(path_type=Path),
    help="Scores for the model card.  [default: metrics/evaluate.json for the default checkpoint]",
)
@report_user_errors
def export(out: Path, kind: str, checkpoint: Path, metrics: Path | None) -> None:
    """Write a trained model into OUT, a new or empty folder, in the format of another project.

    The model card in it (README.md) says what the model was trained on, from params.yaml, and how it scored.
    LLaVA's format needs a CLIP encoder, which the sample does not have.

    \b
    Example: vlm export --format llava export/llava
    """
    quiet_libraries()
    from pipeline.export.llava import export_llava

    source = click.get_current_context().get_parameter_source("checkpoint")
    # Scores belong to one checkpoint: the default ones are not put next to a checkpoint that was named.
    if metrics is None and source is click.core.ParameterSource.DEFAULT and _METRICS.exists():
        metrics = _METRICS
    params = project_params()
    dataset = _dataset(params.data) if params else None
    checkpoint = find_checkpoint_or_explain(checkpoint)
    export_llava(checkpoint, out, model_cache(params), metrics, dataset)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    click.echo(f"{out}: {kind}, {size / 1e6:,.1f} MB, with a model card in {out / 'README.md'}.")
    if metrics is None:
        click.echo("The card has no scores: give the run's metrics/evaluate.json with --metrics.")
    if dataset is None:
        click.echo("The card does not name the dataset: there are no parameters of a project here.")
    click.echo(
        f"LlavaForConditionalGeneration.from_pretrained({str(out)!r}) loads it; docs/serving.md has more."
    )


def _dataset(params: "DataParams") -> str:
    """What the model card calls the dataset by: a source, or of the hub the repository."""
    from pipeline.datasets.pins import read_pins

    return read_pins(Path(params.root, params.pins)).repository if params.source == "hub" else params.source
