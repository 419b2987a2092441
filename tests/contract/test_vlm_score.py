"""`vlm score`: the published figures, and a sentence for every file that cannot be scored.

Run: .venv/bin/python -m pytest tests/contract/test_vlm_score.py
"""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from pipeline.files.json_files import write_jsonl
from tests.vlm_command import run_vlm

GOOD = {"1": "a red dog runs fast", "2": "two men sit on grass"}
PREDICTIONS = [{"image_id": int(i), "caption": c} for i, c in GOOD.items()]  # numbers, as COCO writes ids
REFERENCES: list[Any] = [{"image_id": i, "captions": [c], "split": "test"} for i, c in GOOD.items()]
ROW = {"image_id": "1", "caption": "a dog"}
TRAIN = {"image_id": "3", "split": "train", "captions": ["a cat"]}


def score(folder: Path, predictions: list[Any], references: list[Any], *args: str, code: int = 0) -> Result:
    """Score rows of predictions against rows of references."""
    files = folder / "predictions.jsonl", folder / "references.jsonl"
    for path, rows in zip(files, (predictions, references), strict=True):
        write_jsonl(path, rows)
    return run_vlm("score", *files, *args, code=code)


def test_every_score_of_one_split_is_printed_with_its_interval(tmp_path: Path) -> None:
    table = score(tmp_path, PREDICTIONS, [*REFERENCES, TRAIN], "--split", "test").stdout
    assert "2 images" in table
    for name in ("BLEU-1", "BLEU-4", "CIDEr-D", "ROUGE-L"):
        assert name in table
    assert "100.00 to 100.00" in table
    printed = json.loads(score(tmp_path, PREDICTIONS, REFERENCES, "--json").stdout)
    assert (printed["bleu_4"], printed["intervals"]["bleu_4"]) == (100, {"low": 100, "high": 100})


def captioned(path: str, caption: str) -> dict[str, Any]:
    """Return a line of `vlm caption --json`."""
    box = [0.0, 0.0, 1.0, 1.0]
    return {"path": path, "region": "full", "box": box, "caption": caption, "score": -1.0, "finished": True}


@pytest.mark.parametrize(
    ("ids", "paths"),
    [
        (("1.jpg", "2.jpg"), ("/home/photos/1.jpg", "./2.jpg")),
        (("cats/1.jpg", "dogs/1.jpg"), ("photos/cats/1.jpg", "photos/dogs/1.jpg")),
        (("cats/1.jpg", "cats/2.jpg"), ("1.jpg", "flat/2.jpg")),
    ],
)
def test_what_vlm_caption_wrote_is_scored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, ids: tuple[str, ...], paths: tuple[str, ...]
) -> None:
    texts = GOOD.values()
    references = [{"image_id": i, "captions": [c]} for i, c in zip(ids, texts, strict=True)]
    predictions = [captioned(path, c) for path, c in zip(paths, texts, strict=True)]
    table = score(tmp_path, [*predictions, captioned("photos/other.jpg", "a cat")], references).stdout
    assert "2 images" in table
    assert "100.00 to 100.00" in table
    assert "which are left out: 1 (photos/other.jpg)" in caplog.text


@pytest.mark.parametrize(
    ("predictions", "references", "args", "sentence"),
    [
        ([], REFERENCES, (), "is empty"),
        ([{"image_id": n, "caption": "..."} for n in range(7)], REFERENCES, (), "'4' and 2 more has no"),
        ([ROW, {"caption": "a dog"}], REFERENCES, (), "predictions.jsonl:2: image_id is None"),
        ([ROW, {"image_id": "2", "caption": "a" * 10_001}], REFERENCES, (), "10,001 characters"),
        ([captioned("a.jpg", "a"), captioned("b.jpg", "b")], REFERENCES, (), "file name of a.jpg, b.jpg"),
        ([captioned("1", "a"), captioned("x/1", "b")], REFERENCES, (), "image '1' occurs twice"),
        ([{**captioned("1", "a"), "region": "top"}], REFERENCES, (), "jsonl:1: the caption is of the region"),
        ([captioned("1", "a")], REFERENCES, (), "no prediction for 1 image: '2'"),
        (PREDICTIONS, [{"image_id": "1", "captions": []}], (), "captions is []"),
        (PREDICTIONS, [*REFERENCES, TRAIN], (), "'3'"),
        (PREDICTIONS, REFERENCES, ("--split", "dev"), 'references.jsonl has no line with "split": "dev"'),
    ],
)
def test_what_cannot_be_scored_is_named(
    tmp_path: Path, predictions: list[Any], references: list[Any], args: tuple[str, ...], sentence: str
) -> None:
    assert sentence in score(tmp_path, predictions, references, *args, code=1).output
