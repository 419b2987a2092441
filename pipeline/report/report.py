"""The page to look at after a run: scores beside controls, curves, what the model says of images.

One self-contained HTML file without scripts, fonts or anything else from a network. Equal input
gives equal bytes: no dates, no absolute paths. Text that comes from outside (captions, ids,
requests) is escaped by the template and stands in elements of its own direction.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2

from pipeline.captions import SPLITS, of_split, read_captions, read_images
from pipeline.files.json_files import write_atomic
from pipeline.metrics.color_confusions import NONE
from pipeline.metrics.colors import BASIC_COLORS
from pipeline.params.loader import load_params
from pipeline.params.schema import Params, ReportParams
from pipeline.report.colors import color_tables
from pipeline.report.gallery import ImageFiles, read_said, region_answers, scored_examples
from pipeline.report.plots import epoch_curves, training_curves
from pipeline.report.scores import (
    CONTROLS,
    SCORES,
    by_epoch,
    columns,
    figures,
    habits,
    read_evaluation,
    read_object,
)

_PLOTTED = ("bleu_1", "bleu_4", "cider", "rouge_l")


@dataclass(frozen=True)
class ReportInputs:
    """The files and folders that the page is made of."""

    params: Path
    images: Path
    captions: Path
    evaluation: Path
    training_curve: Path
    epoch_curve: Path
    predictions: Path
    regions: Path
    region_metrics: Path


def write_report(inputs: ReportInputs, output: Path, params: ReportParams) -> None:
    """Write the page to `output`.

    Raises PipelineError naming the file, and the key, that is missing or does not fit the others.
    """
    run = load_params(inputs.params)
    evaluation = read_evaluation(inputs.evaluation)
    captions = read_captions(inputs.captions)
    test = of_split(captions, "test")
    records = {record.image_id: record for record in read_images(inputs.images)}
    files = ImageFiles(records, run.data.max_megapixels)
    best = evaluation["best_epoch"]
    predictions = inputs.predictions / f"epoch_{best:03d}_test.jsonl"
    said = read_said(predictions, test)
    page = _template().render(
        run=run,
        evaluation=evaluation,
        scores=SCORES,
        plotted=_PLOTTED,
        controls=CONTROLS,
        columns=columns([evaluation["test"], *evaluation["controls"].values()]),
        epochs=by_epoch(evaluation),
        habits=habits(evaluation),
        curves=[
            *training_curves(inputs.training_curve),
            *epoch_curves(inputs.epoch_curve, {key: SCORES[key] for key in _PLOTTED}, best),
        ],
        gallery=scored_examples(predictions, said, test, files, params.examples),
        regions=region_answers(inputs.regions, files, params.region_images),
        region_figures=figures(read_object(inputs.region_metrics)),
        color_tables=color_tables(said, captions, inputs.regions / "regions.jsonl"),
        color_words=BASIC_COLORS,
        no_color=NONE,
        images={split: len(of_split(captions, split)) for split in SPLITS},
        captions={s: sum(len(r.captions) for r in of_split(captions, s)) for s in SPLITS},
        parameters=_parameters(run),
    )
    # A lone surrogate is valid in JSON but has no bytes in UTF-8.
    write_atomic(output, page.encode("utf-8", errors="replace"))


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = _figure
    return environment.get_template("gallery.html.j2")


def _figure(value: float | None) -> str:
    """A number as the page shows it; None, a share of nothing, is left out."""
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


def _parameters(run: Params) -> dict[str, dict[str, str]]:
    """Section -> dotted key -> value; without `runtime`, which does not change what is computed."""
    sections = {key: value for key, value in asdict(run).items() if key != "runtime"}
    return {section: dict(_dotted(value, section)) for section, value in sections.items()}


def _dotted(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _dotted(item, f"{key}.{name}")
    elif isinstance(value, tuple):
        yield key, "\n".join(value)
    elif isinstance(value, str) and Path(value).is_absolute():
        # Where a machine keeps its files is no fact of the run, and may name its user.
        yield key, f"…/{Path(value).name}"
    elif isinstance(value, bool):
        yield key, str(value).lower()
    else:
        yield key, "null" if value is None else str(value)
