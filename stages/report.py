"""Stage 7: a page that shows what came of the run."""

from pathlib import Path

from stages.console import stage_banner, stage_command


@stage_command
def main(params: Path) -> None:
    """Write the gallery: scores, curves, captions next to their references, region requests, colours.

    \b
    Reads   metrics/, plots/, data/predictions/, data/regions/, the images
    Writes  report/index.html
    Params  report

    \b
    Example: python -m stages.report
    """
    from pipeline.params.loader import load_params
    from pipeline.report.report import ReportInputs, write_report

    settings = load_params(params)
    inputs = ReportInputs(
        params=params,
        images=Path("data/images.jsonl"),
        captions=Path("data/captions.jsonl"),
        evaluation=Path("metrics/evaluate.json"),
        training_curve=Path("plots/training.csv"),
        epoch_curve=Path("plots/epochs.csv"),
        predictions=Path("data/predictions"),
        regions=Path("data/regions"),
        region_metrics=Path("metrics/regions.json"),
    )
    page = Path("report/index.html")
    with stage_banner("report", [inputs.evaluation, inputs.predictions, inputs.regions], [page]) as close:
        write_report(inputs, page, settings.report)
        close("gallery")


if __name__ == "__main__":
    main()
