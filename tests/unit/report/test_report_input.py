"""Text from outside is shown as text, and files that do not fit are named.

Run: .venv/bin/python -m pytest tests/unit/report/test_report_input.py
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.captions import (
    CaptionRecord,
)
from pipeline.errors import PipelineError
from pipeline.files.json_files import write_json, write_jsonl
from pipeline.report.colors import color_tables
from pipeline.report.report import ReportInputs, write_report
from tests.chromium import Chromium
from tests.report_lab import PARAMS, PageReader, color_row, page_text

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\u202eabc\u200f"


def _inject(run: ReportInputs) -> None:
    """Put markup into every text of the run."""
    captions = [
        CaptionRecord(row["image_id"], row["split"], (HOSTILE, "a dog"))
        for row in map(json.loads, run.captions.read_text().splitlines())
    ]
    rows = [json.dumps({"image_id": c.image_id, "split": c.split, "captions": c.captions}) for c in captions]
    run.captions.write_text("\n".join(rows))
    predictions = run.predictions / "epoch_002_test.jsonl"
    said = [json.loads(line) for line in predictions.read_text().splitlines()]
    surrogate = "a lone \ud800 surrogate"
    lines = [json.dumps({**row, "caption": f"{HOSTILE} {surrogate}"}) for row in said]
    predictions.write_text("\n".join(lines))
    answers = run.regions / "regions.jsonl"
    row = json.loads(answers.read_text().splitlines()[0])
    hostile = dict.fromkeys(("request", "region", "caption"), HOSTILE)
    shown = {"shape": HOSTILE, "color": HOSTILE, "size": HOSTILE, "box": [0, 0, 1, 1]}
    write_jsonl(answers, [{**row, **hostile, "object": shown, "correct": {HOSTILE: True}}])
    evaluation = json.loads(run.evaluation.read_text())
    texts = {"constant_caption": HOSTILE, "training": HOSTILE, "colors": {HOSTILE: color_row(1)}}
    write_json(run.evaluation, {**evaluation, **texts})


def test_text_from_outside_is_escaped(run: ReportInputs, tmp_path: Path) -> None:
    _inject(run)
    reader = PageReader(page_text(run, tmp_path / "index.html"))
    assert "script" not in reader.tags
    assert not [name for _, name, _ in reader.attributes if name.startswith("on")]
    assert not {"link", "iframe", "object"} & reader.tags
    assert all(value.startswith("data:") for _, name, value in reader.attributes if name == "src")
    # Captions, references, the region's answer and its colour, and what evaluate.json says.
    assert reader.text.count("<script>alert(1)</script>") >= 4 + 4 + 4 + 2 + 1


def test_hostile_image_ids_are_escaped(run: ReportInputs, tmp_path: Path) -> None:
    for path in (run.images, run.captions, run.predictions / "epoch_002_test.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            row["image_id"] += HOSTILE
        write_jsonl(path, rows)
    answers = run.regions / "regions.jsonl"
    rows = [json.loads(line) for line in answers.read_text().splitlines()]
    write_jsonl(answers, [{**row, "image_id": row["image_id"] + HOSTILE} for row in rows])
    reader = PageReader(page_text(run, tmp_path / "index.html"))
    assert "script" not in reader.tags
    assert not [name for _, name, _ in reader.attributes if name.startswith("on")]


@pytest.mark.parametrize(
    "key",
    [
        "best_epoch",
        "controls",
        "dev",
        "test.cider",
        "by_epoch.1.test.bleu_4",
        "intervals.test.cider.low",
        "colors.constant.recall",
        "controls.constant.rouge_l",
    ],
)
def test_missing_keys_are_named(run: ReportInputs, tmp_path: Path, key: str) -> None:
    content = json.loads(run.evaluation.read_text())
    *parents, last = key.split(".")
    section = content
    for parent in parents:
        section = section[parent]
    del section[last]
    write_json(run.evaluation, content)
    with pytest.raises(PipelineError, match=rf"evaluate\.json: {key}.* is missing"):
        write_report(run, tmp_path / "index.html", PARAMS)


def test_files_that_do_not_fit_are_named(run: ReportInputs, tmp_path: Path) -> None:
    output = tmp_path / "index.html"
    with pytest.raises(PipelineError, match=r"epoch_002_test\.jsonl"):
        write_report(replace(run, predictions=tmp_path), output, PARAMS)
    with pytest.raises(PipelineError, match=r"regions\.csv.*No such file"):
        write_report(replace(run, epoch_curve=tmp_path / "regions.csv"), output, PARAMS)
    with pytest.raises(PipelineError, match=r"epochs\.csv:2 holds None for step"):
        write_report(replace(run, training_curve=run.epoch_curve), output, PARAMS)
    write_jsonl(run.regions / "regions.jsonl", [{"image_id": "image_2", "box": [0, 0, 1, 1]}])
    with pytest.raises(PipelineError, match=r"regions\.jsonl:1: crop is missing"):
        write_report(run, output, PARAMS)
    rows = [{"image_id": "image_2", "caption": "x", "object": {"shape": "star"}}]
    write_jsonl(run.regions / "regions.jsonl", rows)
    with pytest.raises(PipelineError, match=r"regions\.jsonl:1 holds no object with its caption"):
        color_tables({}, [], run.regions / "regions.jsonl")
    write_jsonl(run.predictions / "epoch_002_test.jsonl", [{"image_id": "image_2", "caption": "x"}])
    with pytest.raises(PipelineError, match="no caption for the test image 'image_3'"):
        write_report(run, output, PARAMS)


def test_a_browser_runs_nothing_that_came_from_outside(
    run: ReportInputs, tmp_path: Path, browser: Chromium
) -> None:
    """Had anything got through, an alert would be open, or an image be asked for."""
    _inject(run)
    output = tmp_path / "index.html"
    page_text(run, output)
    browser.open(output.as_uri())
    assert browser.fetched() == [output.as_uri()]
    assert browser.complaints() == []
    assert browser.run("return document.scripts.length") == 0
    assert browser.run("return document.querySelectorAll('img[src=x]').length") == 0
    assert "<script>alert(1)</script>" in browser.text("main")
