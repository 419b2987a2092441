"""The page to look at after a run: scores next to their controls, curves, what the model says of images.

One self-contained HTML file without scripts, fonts or anything else from a network. Equal input
gives equal bytes: no dates, no absolute paths. Text that comes from outside (captions, ids,
requests) is escaped by the template and has elements with their own direction of writing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2

from pipeline.captions import SPLITS, read_captions, read_images, select_split
from pipeline.files.json_files import read_json, write_atomic
from pipeline.metrics.scores import ANSWER_CONTROLS, CONTROLS, MAIN_SCORES, SCORES, choice_sentence, verdict
from pipeline.params.loader import load_params
from pipeline.params.schema import Params, ReportParams
from pipeline.report.gallery import ImageFiles, explain_content_errors, region_answers, scored_examples
from pipeline.report.plots import epoch_curves, training_curves

# What has its own place on the page; every other number is shown by its name.
_PLACED = (
    *("best_epoch", "dev", "test", "controls", "by_epoch", "images", "intervals", "choice", "colors"),
    *("consensus_images", "answers"),
)
_SHARES = {
    "distinct_captions": "distinct captions",
    "cut_off": "captions cut off at the length limit",
    "empty": "empty captions",
    "shape_accuracy": "shape right",
    "color_accuracy": "color right",
    "both_accuracy": "both right",
    "place_accuracy": "place right, of those that name one",
    "empty_accuracy": "no shape named where nothing is",
}


@dataclass(frozen=True)
class ReportInputs:
    """The files and folders that the page is made of."""

    params: Path = Path("params.yaml")
    images: Path = Path("data/images.jsonl")
    captions: Path = Path("data/captions.jsonl")
    evaluation: Path = Path("metrics/evaluate.json")
    training_curve: Path = Path("plots/training.csv")
    epoch_curve: Path = Path("plots/epochs.csv")
    predictions: Path = Path("data/predictions")
    regions: Path = Path("data/regions")
    region_metrics: Path = Path("metrics/regions.json")


def write_report(inputs: ReportInputs, output: Path, params: ReportParams) -> None:
    """Write the page to `output`.

    Raises PipelineError naming the file that is missing or does not fit the others.
    """
    run = load_params(inputs.params)
    captions = read_captions(inputs.captions)
    splits = {split: select_split(captions, split) for split in SPLITS}
    records = {record.image_id: record for record in read_images(inputs.images)}
    files = ImageFiles(records, run.data.max_megapixels)
    regions = region_answers(inputs.regions, files, params.region_images)
    with explain_content_errors(inputs.region_metrics):
        region_metrics = read_json(inputs.region_metrics)
        region_figures = _figures(region_metrics)
    with explain_content_errors(inputs.evaluation):
        evaluation = read_json(inputs.evaluation)
        best = evaluation["best_epoch"]
        predictions = inputs.predictions / f"epoch_{best:03d}_test.jsonl"
        rows = [evaluation["test"], *evaluation["controls"].values()]
        others = [key for row in rows for key in _numbers(row) if key in row and key != "images"]
        write_page(
            output,
            "gallery.html.j2",
            run=run,
            evaluation=evaluation,
            scores=SCORES,
            plotted=MAIN_SCORES,
            controls=CONTROLS,
            answer_controls=ANSWER_CONTROLS,
            verdict=verdict(evaluation),
            choice=choice_sentence(evaluation),
            columns=list(dict.fromkeys([*SCORES, *others])),
            epochs=sorted((int(epoch), row) for epoch, row in evaluation["by_epoch"].items()),
            output_figures=_figures({k: v for k, v in evaluation.items() if k not in _PLACED}),
            curves=[
                *training_curves(inputs.training_curve),
                *epoch_curves(inputs.epoch_curve, {key: SCORES[key] for key in MAIN_SCORES}, best),
            ],
            gallery=scored_examples(predictions, splits["test"], files, params.examples),
            regions=regions,
            region_figures=region_figures,
            region_metrics=region_metrics,
            images={split: len(records) for split, records in splits.items()},
            captions=sum(len(record.captions) for record in captions),
            parameters=_parameters(run),
        )


def write_page(path: Path, template: str, **content: Any) -> None:
    """Write a page by a template of this folder, which escapes what is put into it."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = _figure
    page = environment.get_template(template).render(content)
    # A lone surrogate is valid in JSON but has no bytes in UTF-8.
    write_atomic(path, page.encode("utf-8", errors="replace"))


def _figure(value: float | None) -> str:
    """Return a number as the page shows it; None, a share of nothing, is left out."""
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


def _figures(content: Mapping[str, Any]) -> dict[str, str]:
    """Return all numbers in nested JSON as the page shows them, with their names in words."""
    figures = {}
    for key, value in _numbers(content).items():
        *sections, last = key.split(".")
        name = ": ".join([*sections, _SHARES.get(last, last)]).replace("_", " ")
        figures[name] = f"{_figure(value)} %" if last in _SHARES else _figure(value)
    return figures


def _numbers(content: Mapping[str, Any]) -> dict[str, float]:
    """Return all numbers in nested JSON, by dotted key."""
    return {k: v for k, v in _flatten(content) if isinstance(v, int | float) and not isinstance(v, bool)}


def _flatten(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _parameters(run: Params) -> dict[str, dict[str, str]]:
    """Return section -> dotted key -> value, without `runtime`, which does not change what is computed."""
    sections = {key: value for key, value in asdict(run).items() if key != "runtime"}
    return {
        section: {key: _setting(value) for key, value in _flatten(values, f"{section}.")}
        for section, values in sections.items()
    }


def _setting(value: Any) -> str:
    """Return the value of a parameter as YAML writes it."""
    if isinstance(value, tuple):
        return "\n".join(value)
    if isinstance(value, str) and Path(value).is_absolute():
        # Where a machine keeps its files does not describe the run, and may name its user.
        return f"…/{Path(value).name}"
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)
