"""What the report shows of metrics/evaluate.json and metrics/regions.json."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.files.json_files import JsonObject, read_json

SCORES = {
    "bleu_1": "BLEU-1",
    "bleu_2": "BLEU-2",
    "bleu_3": "BLEU-3",
    "bleu_4": "BLEU-4",
    "cider": "CIDEr-D",
    "rouge_l": "ROUGE-L",
}
CONTROLS = {
    "constant": "one caption for all images",
    "shuffled": "the model, images shuffled",
    "nearest": "caption of the nearest training image",
}
_COLOR_SCORES = ("precision", "recall", "said", "named")
# What has a place of its own on the page; every other number is shown by its name.
_PLACED = ("best_epoch", "dev", "test", "controls", "by_epoch", "images", "intervals", "choice", "colors")
_SHARES = {
    "distinct_captions": "distinct captions",
    "cut_off": "captions cut off at the length limit",
    "empty": "empty captions",
    "shape_accuracy": "shape right",
    "color_accuracy": "colour right",
    "both_accuracy": "both right",
}


@dataclass(frozen=True, slots=True)
class Figure:
    """A number with its name; `share`: in per cent."""

    name: str
    value: float
    share: bool


def read_object(path: Path) -> JsonObject:
    """The JSON object that a metrics file holds.

    Raises PipelineError when the file is missing, malformed, or holds something else.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise PipelineError(f"{path} holds {content!r:.60}, expected a JSON object; run `dvc repro`.")
    return content


def read_evaluation(path: Path) -> JsonObject:
    """evaluate.json, checked for everything that the page cannot do without.

    Raises PipelineError naming the key that is missing or holds something else than it should.
    """
    content = read_object(path)
    for key in ("best_epoch", "training", "selected_by", "controls", "colors", "by_epoch"):
        _require(content, path, key)
    for key in ("controls", "colors", "by_epoch"):
        if not isinstance(content[key], dict):
            raise PipelineError(f"{path}: {key} is {content[key]!r:.60}, expected an object.")
    epochs = content["by_epoch"]
    if type(content["best_epoch"]) is not int or not all(epoch.isdecimal() for epoch in epochs):
        raise PipelineError(f"{path}: best_epoch or a key of by_epoch is no whole number; run `dvc repro`.")
    rows = ["dev", "test", *(f"controls.{name}" for name in content["controls"])]
    rows += [f"by_epoch.{epoch}.{split}" for epoch in epochs for split in ("dev", "test")]
    rows.append(f"by_epoch.{content['best_epoch']}.dev")
    needed = [f"{row}.{score}" for row in rows for score in SCORES]
    needed += [f"intervals.test.{score}.{bound}" for score in SCORES for bound in ("low", "high")]
    needed.append(f"dev.{content['selected_by']}")
    for key in needed:
        _require_number(content, path, key)
    for key in (f"colors.{name}.{score}" for name in content["colors"] for score in _COLOR_SCORES):
        # A share of nothing has no value.
        if _require(content, path, key) is not None:
            _require_number(content, path, key)
    return content


def _require(content: Any, path: Path, dotted: str) -> Any:
    for key in dotted.split("."):
        if not isinstance(content, dict) or key not in content:
            raise PipelineError(f"{path}: {dotted} is missing; run `dvc repro` to write it anew.")
        content = content[key]
    return content


def _require_number(content: JsonObject, path: Path, dotted: str) -> None:
    value = _require(content, path, dotted)
    if not isinstance(value, int | float):
        raise PipelineError(f"{path}: {dotted} is {value!r:.60}, expected a number.")


def columns(rows: Sequence[JsonObject]) -> list[str]:
    """The scores, then every other number that a row holds by itself, but for the number of images."""
    others = (key for row in rows for key in _numbers(row) if key in row and key != "images")
    return list(dict.fromkeys([*SCORES, *others]))


def by_epoch(evaluation: JsonObject) -> list[tuple[int, JsonObject]]:
    """The scores of each epoch, in the order of training."""
    rows = ((int(epoch), row) for epoch, row in evaluation["by_epoch"].items())
    return sorted(rows, key=lambda pair: pair[0])


def habits(evaluation: JsonObject) -> list[Figure]:
    """Every number of an evaluation that has no other place on the page."""
    return figures({key: value for key, value in evaluation.items() if key not in _PLACED})


def figures(content: Mapping[str, Any]) -> list[Figure]:
    """All numbers in nested JSON."""
    found = []
    for key, value in _numbers(content).items():
        *sections, last = key.split(".")
        name = ": ".join([*sections, _SHARES.get(last, last)]).replace("_", " ")
        found.append(Figure(name, value, share=last in _SHARES))
    return found


def _numbers(content: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """All numbers in nested JSON, by dotted key."""
    numbers: dict[str, float] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            numbers |= _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            numbers[f"{prefix}{key}"] = value
    return numbers
