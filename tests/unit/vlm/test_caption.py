"""`vlm caption` with tiny models: what it prints, and that one bad file stops no others.

Run: .venv/bin/python -m pytest tests/unit/vlm/test_caption.py
"""

import json
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from pipeline import Captioner
from vlm.main import main


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Path) -> Path:
    """A project's folder with its checkpoint, and photos/1.png to 3.png in it."""
    (tmp_path / "photos").mkdir()
    noise = np.random.default_rng(0)
    for number in (1, 2, 3):
        small = Image.fromarray(noise.integers(0, 256, (3 + number, 4, 3), dtype=np.uint8))
        small.resize((60, 40)).save(tmp_path / "photos" / f"{number}.png")
    (tmp_path / "data").symlink_to(tiny_checkpoint.parent)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


def run(*args: str) -> Result:
    return CliRunner().invoke(main, ["caption", *args])


def errors(result: Result) -> list[str]:
    """Its sentences; libraries that other tests imported before may draw bars there as well."""
    return [line for line in result.stderr.splitlines() if line.startswith("Error")]


def no_models(*_: object, **__: object) -> NoReturn:
    raise AssertionError("models were loaded")


@pytest.mark.usefixtures("photos")
def test_of_one_image_the_caption_alone_is_printed() -> None:
    result = run("photos/1.png")
    assert result.exit_code == 0, result.output
    expected = Captioner.load("data", "cpu").caption("photos/1.png")
    assert result.stdout == f"{expected.text}\n"
    assert errors(result) == []


@pytest.mark.usefixtures("photos")
def test_of_several_each_line_begins_with_the_path() -> None:
    for names in (["photos"], ["photos/*.png"], ["photos/1.png", "photos/2.png", "photos/3.png"]):
        lines = run(*names, "--beams", "1").stdout.splitlines()
        assert [line.split(": ")[0] for line in lines] == [f"photos/{n}.png" for n in (1, 2, 3)]


@pytest.mark.usefixtures("photos")
def test_json_has_a_line_for_each_caption() -> None:
    result = run("photos", "--ask", "Compare the left and the right", "--json")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(row["path"], row["region"]) for row in rows] == [
        (f"photos/{n}.png", side) for n in (1, 2, 3) for side in ("left", "right")
    ]
    assert rows[0].keys() == {"path", "region", "box", "caption", "score", "finished"}
    assert rows[0]["box"] == [0, 0, 0.5, 1]
    assert all(row["score"] < 0 for row in rows)


@pytest.mark.usefixtures("photos")
def test_regions_are_named_or_boxes() -> None:
    by_name = run("photos/1.png", "--region", "left-hand side").stdout
    assert by_name == run("photos/1.png", "--box", "0,0,30,40").stdout
    assert by_name == run("photos/1.png", "--box", "0,0,0.5,1").stdout
    several = run("photos/1.png", "--ask", "the left and the whole image").stdout.splitlines()
    assert several == [f"left: {by_name.strip()}", f"full: {run('photos/1.png').stdout.strip()}"]


def test_a_bad_file_is_a_sentence_and_the_others_have_captions(photos: Path) -> None:
    (photos / "0.png").write_bytes(b"no image")
    result = run("photos", "none.png", "--ask", "the left and the right")
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 6
    missing, broken = errors(result)
    assert missing == "Error: none.png does not exist; expected an image, a folder or a pattern."
    assert broken.startswith("Error: photos/0.png is not a readable image;")


@pytest.mark.usefixtures("photos")
def test_another_projects_parameters_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("lr: 0.1\n")
    result = run("photos/1.png")
    assert result.exit_code == 0
    assert "Warning: the parameters here are left aside (params.yaml: unknown key lr" in result.stderr


@pytest.mark.parametrize("command", [["caption", "a.png"], ["app"]])
@pytest.mark.parametrize("number", ["nan", "inf", "0", "1000"])
def test_a_limit_is_a_number_that_pillow_can_keep(command: list[str], number: str) -> None:
    result = CliRunner().invoke(main, [*command, "--max-megapixels", number])
    assert result.exit_code == 2
    assert "Invalid value for '--max-megapixels'" in result.stderr


@pytest.mark.usefixtures("photos")
def test_an_image_over_the_limit_is_a_sentence_that_names_the_option() -> None:
    result = run("photos/1.png", "--max-megapixels", "0.001")
    assert result.exit_code == 1
    assert "too many: max_megapixels is 0.001" in result.stderr


@pytest.mark.usefixtures("photos")
def test_a_box_beyond_an_image_is_a_sentence() -> None:
    result = run("photos/1.png", "--box", "0,0,61,40")
    assert result.exit_code == 1
    assert "reaches beyond the image of 60 x 40 pixels" in result.stderr


def test_each_image_that_a_box_does_not_fit_is_named(photos: Path) -> None:
    Image.new("RGB", (70, 50)).save(photos / "0.png")
    result = run("photos", "--box", "0,0,70,50")
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 1
    beyond = "the box 0,0,70,50px reaches beyond the image of 60 x 40 pixels; give a box inside it."
    assert errors(result) == [f"Error: photos/{n}.png: {beyond}" for n in (1, 2, 3)]


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize(
    ("args", "code", "sentence"),
    [
        (["--ask", "the top corner"], 1, "is unclear: 'top corner' is not one of the regions; ask for full"),
        (["--region", "asdf"], 1, "'asdf' names no region; allowed: full, top-left"),
        (["--region", "left and right"], 1, "names more than one region: left and right"),
        (["--box", "1,2"], 1, "the box '1,2' is not left, top, right, bottom"),
        (["--box", "left"], 1, "the box 'left' is not left, top, right, bottom"),
        (["--box", "0,0,1,1", "--region", "left"], 2, "give one of --ask, --region and --box"),
        (["--device", "gpu"], 2, "allowed: auto, cpu, cuda"),
        (["--beams", "0"], 2, "0 is not in the range"),
    ],
)
def test_what_cannot_be_asked_is_said_before_models_are_loaded(
    args: list[str], code: int, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Captioner, "load", no_models)
    result = run("photos/1.png", *args)
    assert result.exit_code == code
    assert sentence in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.usefixtures("photos")
def test_without_a_readable_name_no_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Captioner, "load", no_models)
    assert run("none.png").exit_code == 1


@pytest.mark.usefixtures("photos")
def test_a_missing_checkpoint_is_a_sentence() -> None:
    result = run("photos/1.png", "--checkpoint", "elsewhere/best.safetensors")
    assert result.exit_code == 1
    assert "best.safetensors does not exist; run `dvc repro`" in result.stderr
