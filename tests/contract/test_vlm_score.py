"""`vlm score`: the published figures, and a sentence for every file that cannot be scored."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.shared_data import metrics_reference
from vlm.main import main

GOOD = {"1": "a red dog runs fast", "2": "two men sit on grass"}


def write(path: Path, rows: list[object]) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    return write(tmp_path / "said.jsonl", [{"image_id": i, "caption": c} for i, c in GOOD.items()])


@pytest.fixture
def references(tmp_path: Path) -> Path:
    return write(tmp_path / "written.jsonl", [{"image_id": i, "captions": [c]} for i, c in GOOD.items()])


def run(*args: object) -> Result:
    return CliRunner().invoke(main, ["score", *map(str, args)])


def test_a_published_systems_figures_are_printed() -> None:
    folder = metrics_reference()
    result = run(folder / "predictions.jsonl", folder / "references.jsonl", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    for name, expected in json.loads((folder / "expected.json").read_text()).items():
        if name in found:
            assert found[name] == pytest.approx(expected, abs=1e-3)
            assert found["intervals"][name]["low"] < expected < found["intervals"][name]["high"]


def test_the_table_has_every_score_with_its_interval(predictions: Path, references: Path) -> None:
    result = run(predictions, references)
    assert result.exit_code == 0, result.output
    for name in ("BLEU-1", "BLEU-4", "CIDEr-D", "ROUGE-L"):
        assert name in result.stdout
    assert "100.00 to 100.00" in result.stdout


def test_numbers_are_ids_as_coco_writes_them(tmp_path: Path, references: Path) -> None:
    said = write(tmp_path / "n.jsonl", [{"image_id": int(i), "caption": c} for i, c in GOOD.items()])
    assert run(said, references).exit_code == 0


ROW = {"image_id": "1", "caption": "a dog"}


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([], "is empty; expected a line for each image"),
        ([ROW, ROW], "image '1' is there twice, first in line 1"),
        ([ROW], "no prediction for 1 image: '2'"),
        ([ROW, {"image_id": "2", "caption": " "}], "said.jsonl: a caption of '2' has no words"),
        (
            [{"image_id": str(n), "caption": "..."} for n in range(7)],
            "a caption of '0', '1', '2', '3', '4' and 2 more has no words",
        ),
        ([ROW, {"image_id": "2"}], "a caption is None; expected text"),
        ([ROW, {"caption": "a dog"}], "said.jsonl:2: image_id is None"),
        ([ROW, {"image_id": "2", "caption": "a" * 10_001}], "has 10,001 characters"),
        (
            [ROW, {"image_id": "2", "caption": "b"}, {"image_id": "3", "caption": "c"}],
            "but no references for",
        ),
        (["{"], "is not valid JSON"),
        (["[1]"], "expected a JSON object"),
    ],
)
def test_what_cannot_be_scored_is_named(
    tmp_path: Path, references: Path, rows: list[object], sentence: str
) -> None:
    result = run(write(tmp_path / "said.jsonl", rows), references)
    assert result.exit_code == 1
    assert sentence in result.output
    assert "Traceback" not in result.output


def test_references_without_captions_are_named(tmp_path: Path, predictions: Path) -> None:
    written = write(tmp_path / "w.jsonl", [{"image_id": "1", "captions": []}])
    result = run(predictions, written)
    assert result.exit_code == 1
    assert "captions is []; expected a list of captions" in result.output


def test_of_a_dataset_the_references_of_one_split_are_taken(tmp_path: Path, predictions: Path) -> None:
    rows: list[object] = [{"image_id": i, "split": "test", "captions": [c]} for i, c in GOOD.items()]
    rows.append({"image_id": "3", "split": "train", "captions": ["a cat"]})
    captions = write(tmp_path / "captions.jsonl", rows)
    result = run(predictions, captions, "--split", "test")
    assert result.exit_code == 0, result.output
    assert "2 images" in result.stdout
    assert "no prediction for 1 image: '3'" in run(predictions, captions).output
    none = run(predictions, captions, "--split", "dev")
    assert none.exit_code == 1
    assert 'captions.jsonl has no line with "split": "dev"' in none.output
