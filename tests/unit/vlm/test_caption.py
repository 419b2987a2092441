"""`vlm caption` with tiny models: what it prints, and that one bad file stops no others.

Run: .venv/bin/python -m pytest tests/unit/vlm/test_caption.py
"""

import json
import os
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
    assert broken.startswith("Error: photos/0.png is not a readable image.")


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
@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--max-megapixels", "0.001"], "too many: max_megapixels is 0.001"),
        (["--box", "0,0,61,40"], "reaches beyond the image of 60 x 40 pixels"),
        (
            ["--checkpoint", "elsewhere/best.safetensors"],
            "best.safetensors does not exist. Fix:",
        ),
    ],
)
def test_what_goes_wrong_later_is_a_sentence(args: list[str], sentence: str) -> None:
    result = run("photos/1.png", *args)
    assert result.exit_code == 1
    assert sentence in result.stderr


def test_each_image_that_a_box_does_not_fit_is_named(photos: Path) -> None:
    Image.new("RGB", (70, 50)).save(photos / "0.png")
    result = run("photos", "--box", "0,0,70,50")
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 1
    beyond = "The box 0,0,70,50px reaches beyond the image of 60 x 40 pixels. Fix: give a box inside it."
    assert errors(result) == [f"Error: photos/{n}.png: {beyond}" for n in (1, 2, 3)]


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize(
    ("args", "code", "sentence"),
    [
        (
            ["--ask", "the top corner"],
            1,
            "is unclear: 'the top corner' is not one of the regions. Ask for full",
        ),
        (["--region", "asdf"], 1, "'asdf' names no region. Ask for full, top-left"),
        (["--region", "left and right"], 1, "names more than one region: left and right"),
        (["--box", "1,2"], 1, "The box '1,2' is not left, top, right, bottom"),
        (["--box", "left"], 1, "The box 'left' is not left, top, right, bottom"),
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
def test_files_of_a_folder_that_are_no_images_by_name_are_counted_in_a_note(photos: Path) -> None:
    (photos / "4.heic").touch()
    result = run("photos", "--beams", "1")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 3
    assert "Note: 1 file was passed over (1 .heic); of folders .bmp, " in result.stderr


@pytest.mark.parametrize("checkpoint", ["best.safetensors", "best", "."])
@pytest.mark.parametrize(
    ("process", "sentence"),
    [
        (os.getpid(), f"DVC is at work (process {os.getpid()}: dvc repro); wait until it has ended"),
        # No such process: what a killed one left.
        (2**22 + 1, "run `dvc repro`"),
    ],
    ids=["DVC at work", "DVC killed"],
)
def test_a_checkpoint_that_dvc_is_making_is_not_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: str, process: int, sentence: str
) -> None:
    """`dvc repro` removes a stage's outputs before it makes them anew."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "1.png").touch()
    (tmp_path / ".dvc" / "tmp").mkdir(parents=True)
    locks = {"write": {"/data": {"pid": process, "cmd": "dvc repro"}}, "read": {}}
    (tmp_path / ".dvc" / "tmp" / "rwlock").write_text(json.dumps(locks))
    result = run("1.png", "--checkpoint", checkpoint)
    assert result.exit_code == 1
    assert sentence in result.stderr


def test_a_checkpoint_that_is_there_is_used_whatever_dvc_does(photos: Path) -> None:
    (photos.parent / ".dvc" / "tmp").mkdir(parents=True)
    for content in (json.dumps({"write": {"/x": {"pid": os.getpid(), "cmd": "dvc repro"}}, "read": {}}), "{"):
        (photos.parent / ".dvc" / "tmp" / "rwlock").write_text(content)
        assert run("photos/1.png", "--beams", "1").exit_code == 0
