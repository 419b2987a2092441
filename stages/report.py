"""Stage 8: a page that shows the results of the run."""

from pathlib import Path

from pipeline.params.schema import Params
from stages.console import stage_banner, stage_command


@stage_command
def main(settings: Params) -> None:
    """Write the gallery: scores, curves, captions next to their references, region requests, colors.

    \b
    Reads   metrics/, plots/, data/predictions/, data/regions/, the images
    Writes  report/index.html
    Params  report

    \b
    Example: python -m stages.report
    """
    from pipeline.report.report import ReportInputs, write_report

    inputs = ReportInputs()
    page = Path("report/index.html")
    with stage_banner("report", [inputs.evaluation, inputs.predictions, inputs.regions], [page]) as close:
        write_report(inputs, page, settings.report)
        close("gallery")


if __name__ == "__main__":
    main()
