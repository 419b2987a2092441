"""`vlm score`: the published figures, and a sentence for every file that cannot be scored.

Run: .venv/bin/python -m pytest tests/contract/test_vlm_score.py
"""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.shared_data import metrics_reference
from vlm.main import main

GOOD = {"1": "a red dog runs fast", "2": "two men sit on grass"}
PREDICTIONS = [{"image_id": int(i), "caption": c} for i, c in GOOD.items()]  # numbers, as COCO writes ids
REFERENCES: list[Any] = [{"image_id": i, "captions": [c], "split": "test"} for i, c in GOOD.items()]
ROW = {"image_id": "1", "caption": "a dog"}
TRAIN = {"image_id": "3", "split": "train", "captions": ["a cat"]}


def run(*args: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["score", *map(str, args)])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


@pytest.fixture
def score(tmp_path: Path) -> Any:
    """Scores rows of predictions against rows of references."""

    def write(name: str, rows: list[Any]) -> Path:
        lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
        return tmp_path / name

    return lambda predictions, references, *args, code=0: run(
        write("predictions.jsonl", predictions), write("references.jsonl", references), *args, code=code
    )


def test_the_figures_of_a_published_system_are_printed() -> None:
    folder = metrics_reference()
    printed = json.loads(run(folder / "predictions.jsonl", folder / "references.jsonl", "--json").stdout)
    for name, expected in json.loads((folder / "expected.json").read_text()).items():
        if name in printed:
            assert printed[name] == pytest.approx(expected, abs=1e-3)
            assert printed["intervals"][name]["low"] < expected < printed["intervals"][name]["high"]


def test_the_table_has_every_score_of_one_split_with_its_interval(score: Any) -> None:
    table = score(PREDICTIONS, [*REFERENCES, TRAIN], "--split", "test").stdout
    assert "2 images" in table
    for name in ("BLEU-1", "BLEU-4", "CIDEr-D", "ROUGE-L"):
        assert name in table
    assert "100.00 to 100.00" in table


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
    score: Any, caplog: pytest.LogCaptureFixture, ids: tuple[str, ...], paths: tuple[str, ...]
) -> None:
    texts = GOOD.values()
    references = [{"image_id": i, "captions": [c]} for i, c in zip(ids, texts, strict=True)]
    predictions = [captioned(path, c) for path, c in zip(paths, texts, strict=True)]
    table = score([*predictions, captioned("photos/other.jpg", "a cat")], references).stdout
    assert "2 images" in table
    assert "100.00 to 100.00" in table
    assert "which are left out: 1 (photos/other.jpg)" in caplog.text


@pytest.mark.parametrize(
    ("predictions", "references", "args", "sentence"),
    [
        ([], REFERENCES, (), "is empty"),
        ([ROW, ROW], REFERENCES, (), "image '1' occurs twice, first in line 1"),
        ([ROW], REFERENCES, (), "'2'"),
        ([ROW, {"image_id": "2", "caption": " "}], REFERENCES, (), "a caption of '2' has no words"),
        (
            [{"image_id": n, "caption": "..."} for n in range(7)],
            REFERENCES,
            (),
            "'4' and 2 more has no words",
        ),
        ([ROW, {"image_id": "2"}], REFERENCES, (), "a caption is None"),
        ([ROW, {"caption": "a dog"}], REFERENCES, (), "predictions.jsonl:2: image_id is None"),
        ([ROW, {"image_id": "2", "caption": "a" * 10_001}], REFERENCES, (), "10,001 characters"),
        ([*PREDICTIONS, {"image_id": "3", "caption": "c"}], REFERENCES, (), "'3'"),
        ([captioned("a.jpg", "a"), captioned("b.jpg", "b")], REFERENCES, (), "file name of a.jpg, b.jpg"),
        ([captioned("1", "a"), captioned("x/1", "b")], REFERENCES, (), "image '1' occurs twice"),
        ([captioned("1", "a")], REFERENCES, (), "no prediction for 1 image: '2'"),
        (["{"], REFERENCES, (), "is not valid JSON"),
        (["[1]"], REFERENCES, (), "expected a JSON object"),
        (PREDICTIONS, [{"image_id": "1", "captions": []}], (), "captions is []"),
        (PREDICTIONS, [*REFERENCES, TRAIN], (), "'3'"),
        (PREDICTIONS, REFERENCES, ("--split", "dev"), 'references.jsonl has no line with "split": "dev"'),
    ],
)
def test_what_cannot_be_scored_is_named(
    score: Any, predictions: list[Any], references: list[Any], args: tuple[str, ...], sentence: str
) -> None:
    assert sentence in score(predictions, references, *args, code=1).output
