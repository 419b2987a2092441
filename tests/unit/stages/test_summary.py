"""What is printed after a run: `pytest tests/unit/stages/test_summary.py`."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pipeline.files.json_files import write_json
from stages.summary import main
from tests.unit.project import write_dvc_lock

NAMES = ("bleu_1", "bleu_4", "cider", "rouge_l")
RIGHT = {"objects": 50, "shape_accuracy": 96.0, "color_accuracy": 92.0}


pytestmark = pytest.mark.usefixtures("here")


def summarize(controls: dict[str, Any], **more: Any) -> list[str]:
    """The lines of a summary of a model with a CIDEr-D of 30.25."""
    evaluation = {
        "best_epoch": 1,
        "selected_by": "bleu_4",
        "images": {"test": 150},
        "test": {**dict.fromkeys(NAMES, 20.0), "cider": 30.25},
        "intervals": {"test": {name: {"low": 10, "high": 40} for name in NAMES}},
        "controls": {name: {**dict.fromkeys(NAMES, 20.0), **scores} for name, scores in controls.items()},
    }
    write_json(Path("metrics/evaluate.json"), evaluation | more)
    write_json(Path("metrics/regions.json"), {"requests": 120, **RIGHT})
    result = CliRunner().invoke(main)
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


@pytest.mark.parametrize("is_below", [True, False])
def test_it_says_if_a_control_leads(is_below: bool) -> None:
    behind = {"low": -9.0 if is_below else 2.0, "high": 9.0}
    controls = {
        "nearest": {"cider": 26.5},
        "consensus": {"cider": 34.5 if is_below else 30.25, "behind": behind},
    }
    lines = summarize(controls)
    sentence = "The captions say less than “consensus of the nearest”: CIDEr-D 30.25 against 34.50."
    assert (sentence in lines) == any("say less" in line for line in lines) == is_below
    header = next(place for place, line in enumerate(lines) if line.startswith("Test scores"))
    assert lines[header].endswith("model's CIDEr-D minus this, 95 %")
    assert lines[header + 2].endswith("   -9 to 9" if is_below else "   2 to 9")


def test_it_says_which_captions_are_judged() -> None:
    scenes = {**RIGHT, "objects": 58, "place_accuracy": 75.0, "places": 40}
    lines = summarize({}, scenes=scenes)
    judged = "that show one whole object alone are judged: shape right in 96.0 %, color in 92.0 %"
    assert f"Of 150 test images the 58 {judged}, place in 75.0 % of the 40 that name one" in lines
    assert f"Of 120 region crops the 50 {judged}" in lines


def test_it_says_how_many_answers_are_right() -> None:
    controls = {"most_frequent": {"accuracy": 20.0}, "shuffled": {"accuracy": 25.0}}
    row = {"questions": 40, "accuracy": 90.0, "low": 85.2, "high": 94.6, "controls": controls}
    answers = {**row, "kinds": {"color": {**row, "questions": 10, "accuracy": 95.0}}}
    lines = summarize({}, answers=answers)
    start = next(place for place, line in enumerate(lines) if line.startswith("Right answers"))
    cells = [re.split(r"\s{2,}", line.strip()) for line in lines[start : start + 3]]
    assert cells == [
        ["Right answers in %:", "the model", "95 %", "most frequent answer of its kind", "images shuffled"],
        ["all 40 questions", "90.0", "85 to 95", "20.0", "25.0"],
        ["color (10)", "95.0", "85 to 95", "20.0", "25.0"],
    ]
    # Numbers end where their titles end.
    assert len({len(line) for line in lines[start : start + 3]}) == 1


def test_metrics_that_dvc_is_making_are_not_missing() -> None:
    """The summary said "run `dvc repro`" while DVC was at work."""
    write_dvc_lock(os.getpid())
    result = CliRunner().invoke(main)
    assert result.exit_code == 1
    assert f"DVC is at work (process {os.getpid()}: dvc repro)" in result.stderr
