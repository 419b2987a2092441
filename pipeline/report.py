"""The page to look at after a run: scores beside controls, curves, what the model says of images.

One self-contained HTML file without scripts, fonts or anything else from a network. Equal input
gives equal bytes: no dates, no absolute paths. Text that comes from outside (captions, ids,
requests) is escaped by the template and stands in elements of its own direction.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2

from pipeline.captions import SPLITS, CaptionRecord, of_split, read_captions, read_images
from pipeline.errors import PipelineError
from pipeline.gallery import ImageFiles, region_answers, scored_examples
from pipeline.params import Params, ReportParams
from pipeline.params_loader import load_params
from pipeline.plots import epoch_curves, training_curves
from pipeline.records import JsonObject, read_json, write_atomic

_SCORES = {
    "bleu_1": "BLEU-1",
    "bleu_2": "BLEU-2",
    "bleu_3": "BLEU-3",
    "bleu_4": "BLEU-4",
    "cider": "CIDEr-D",
    "rouge_l": "ROUGE-L",
}
_PLOTTED = ("bleu_1", "bleu_4", "cider", "rouge_l")
_CONTROLS = {
    "constant": "one caption for all images",
    "shuffled": "the model, images shuffled",
    "nearest": "caption of the nearest training image",
}


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
    paths = {record.image_id: Path(record.path) for record in read_images(inputs.images)}
    files = ImageFiles(paths, run.data.max_megapixels)
    best = evaluation["best_epoch"]
    predictions = inputs.predictions / f"epoch_{best:03d}_test.jsonl"
    page = _template().render(
        run=run,
        evaluation=evaluation,
        scores=_SCORES,
        plotted=_PLOTTED,
        controls=_CONTROLS,
        columns=_columns([evaluation["test"], *evaluation["controls"].values()]),
        epochs=_by_epoch(evaluation),
        other_figures=_other_figures(evaluation),
        curves=[
            *training_curves(inputs.training_curve),
            *epoch_curves(inputs.epoch_curve, {key: _SCORES[key] for key in _PLOTTED}, best),
        ],
        gallery=scored_examples(predictions, of_split(captions, "test"), files, params.examples),
        regions=region_answers(inputs.regions, files, params.region_images),
        region_figures=_numbers(_read_object(inputs.region_metrics)),
        data=_data_counts(captions),
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


def read_evaluation(path: Path) -> JsonObject:
    """evaluate.json, checked for every key that the page cannot do without."""
    content = _read_object(path)
    for key in ("best_epoch", "selected_by", "controls", "by_epoch"):
        _require(content, path, key)
    for key in ("controls", "by_epoch"):
        if not isinstance(content[key], dict):
            raise PipelineError(f"{path}: {key} is {content[key]!r:.60}, expected an object.")
    epochs = content["by_epoch"]
    if type(content["best_epoch"]) is not int or not all(epoch.isdecimal() for epoch in epochs):
        raise PipelineError(f"{path}: best_epoch or a key of by_epoch is no whole number; run `dvc repro`.")
    rows = ["dev", "test", *(f"controls.{name}" for name in content["controls"])]
    rows += [f"by_epoch.{epoch}.{split}" for epoch in epochs for split in ("dev", "test")]
    rows.append(f"by_epoch.{content['best_epoch']}.dev")
    for row in rows:
        for score in _SCORES:
            value = _require(content, path, f"{row}.{score}")
            if not isinstance(value, int | float):
                raise PipelineError(f"{path}: {row}.{score} is {value!r:.60}, expected a number.")
    _require(content, path, f"dev.{content['selected_by']}")
    return content


def _read_object(path: Path) -> JsonObject:
    content = read_json(path)
    if not isinstance(content, dict):
        raise PipelineError(f"{path} holds {content!r:.60}, expected a JSON object; run `dvc repro`.")
    return content


def _require(content: Any, path: Path, dotted: str) -> Any:
    for key in dotted.split("."):
        if not isinstance(content, dict) or key not in content:
            raise PipelineError(f"{path}: {dotted} is missing; run `dvc repro` to write it anew.")
        content = content[key]
    return content


def _columns(rows: Sequence[JsonObject]) -> list[str]:
    """The scores, then every other number that a row holds."""
    return list(dict.fromkeys([*_SCORES, *(key for row in rows for key in _numbers(row))]))


def _numbers(content: Any, prefix: str = "") -> dict[str, float]:
    """All numbers in nested JSON, by dotted key."""
    numbers: dict[str, float] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            numbers |= _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            numbers[f"{prefix}{key}"] = value
    return numbers


def _by_epoch(evaluation: JsonObject) -> list[tuple[int, JsonObject]]:
    rows = ((int(epoch), row) for epoch, row in evaluation["by_epoch"].items())
    return sorted(rows, key=lambda pair: pair[0])


def _other_figures(evaluation: JsonObject) -> dict[str, float]:
    shown = ("best_epoch", "dev", "test", "controls", "by_epoch", "images")
    return _numbers({key: value for key, value in evaluation.items() if key not in shown})


def _figure(value: float) -> str:
    """A number as the page shows it."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


def _data_counts(captions: Sequence[CaptionRecord]) -> dict[str, dict[str, float]]:
    """Images, captions and words by split."""
    counts: dict[str, dict[str, float]] = {}
    for split in SPLITS:
        records = of_split(captions, split)
        texts = [caption for record in records for caption in record.captions]
        counts[split] = {
            "images": len(records),
            "captions": len(texts),
            "distinct captions": len(set(texts)),
            "captions an image": len(texts) / max(len(records), 1),
            "words a caption": sum(len(text.split()) for text in texts) / max(len(texts), 1),
        }
    return counts


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
