"""`vlm export`: a trained model as a folder for other programs."""

from pathlib import Path

import click

from vlm import options

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
@options.checkpoint
@click.option(
    "--metrics",
    type=click.Path(path_type=Path),
    help="Scores for the model card.  [default: metrics/evaluate.json for the default checkpoint]",
)
def export(out: Path, kind: str, checkpoint: Path, metrics: Path | None) -> None:
    """Write a trained model into OUT, a new or empty folder, in the format of another project.

    The model card in it (README.md) says what the model was trained on, from params.yaml, and how it scored.
    LLaVA's format needs a CLIP encoder, which the sample does not have.

    \b
    Example: vlm export --format llava export/llava
    """
    from pipeline.datasets.pins import read_pins
    from pipeline.export.llava import export_llava

    source = click.get_current_context().get_parameter_source("checkpoint")
    # Scores belong to one checkpoint: those of the default one are not put next to another.
    if metrics is None and source is click.core.ParameterSource.DEFAULT and _METRICS.exists():
        metrics = _METRICS
    params = options.project_params()
    dataset, cache = (str(params.data.source), params.runtime.model_cache) if params else (None, None)
    if params and dataset == "hub":
        dataset = read_pins(Path(params.data.root, params.data.pins)).repository
    export_llava(options.find_checkpoint_or_explain(checkpoint), out, cache, metrics, dataset)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    click.echo(f"{out}: {kind}, {size / 1e6:,.1f} MB, with a model card in {out / 'README.md'}.")
    if metrics is None:
        click.echo("The card has no scores. Fix: pass the run's metrics/evaluate.json with --metrics.")
    if dataset is None:
        click.echo("The card does not name the dataset: the current folder has no params.yaml of a project.")
    click.echo(
        f"LlavaForConditionalGeneration.from_pretrained({str(out)!r}) loads it; docs/serving.md has more."
    )
