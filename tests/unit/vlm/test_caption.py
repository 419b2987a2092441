"""`vlm caption` with tiny models: what it prints, and that one bad file stops no others.

Run: .venv/bin/python -m pytest tests/unit/vlm/test_caption.py
"""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from PIL import Image

from pipeline import Captioner
from pipeline.model.checkpoints import load_checkpoint, save_scored
from pipeline.params.schema import GenerateParams, Params
from tests.python_process import run_python
from tests.refusals import call_before
from tests.unit.project import refuse_to_load, write_dvc_lock
from tests.vlm_command import run_vlm
from vlm.files.caption_output import Printer, open_output

run = partial(run_vlm, "caption")


def errors(result: Result) -> list[str]:
    """Its sentences; libraries that other tests imported before may draw bars there too."""
    return [line for line in result.stderr.splitlines() if line.startswith("Error")]


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def without_score(row: dict[str, Any]) -> list[tuple[str, Any]]:
    """The last digits of a score depend on the batch."""
    return sorted((key, value) for key, value in row.items() if key != "score")


@pytest.fixture
def no_models(photos: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The photos, and a captioner that must not be loaded."""
    (photos / "1.jpg").touch()
    (photos / "other.jsonl").write_text('{"image_id": "1.png"}\n')
    monkeypatch.setattr(Captioner, "load", refuse_to_load)
    return photos


@pytest.mark.usefixtures("photos")
def test_for_one_image_only_the_caption_is_printed() -> None:
    result = run("photos/1.png")
    assert result.stdout == f"{Captioner.load('data', 'cpu').caption('photos/1.png').text}\n"
    assert errors(result) == []
    assert "Loading data/best.safetensors" in result.stderr
    assert result.stderr.count("Trained on 16 generated scenes of colored shapes; photographs are") == 1


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize("words", [["caption", "photos/1.png"], ["ask", "photos/1.png", "What is it?"]])
def test_it_says_that_it_loads_before_the_imports_that_take_long(words: list[str]) -> None:
    code = "import sys; sys.modules['torch'] = None; from vlm.main import main; main()"
    result = run_python(code, *words, status=1)
    assert result.stderr.startswith(
        "Loading data/best.safetensors and the models that it names ...\nTraceback"
    )
    assert "torch" in result.stderr.splitlines()[-1]
    assert result.stdout == ""


def test_for_several_each_line_begins_with_the_path(photos: Path) -> None:
    (photos / "4.xcf").touch()
    result = run("photos", "--beams", "1")
    assert [line.split(": ")[0] for line in result.stdout.splitlines()] == [
        f"photos/{n}.png" for n in (1, 2, 3)
    ]
    assert "Note: ignored 1 file (1 .xcf)" in result.stderr


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
    assert "Loading data" not in result.stderr
    assert "Trained on" not in result.stderr


def test_text_files_are_written_next_to_images(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As trainers of image generators read them; a second run has nothing to do and loads no model."""
    (photos / "2.txt").write_text("by hand")
    (photos / "0.png").write_bytes(b"no image")
    result = run("photos", "--write", "txt", code=1)
    assert result.stdout == ""
    assert "written to txt: 2; skipped, since they exist: 1" in result.stderr
    assert {path.name for path in photos.glob("*.txt")} == {"1.txt", "2.txt", "3.txt"}
    assert (photos / "1.txt").read_text() == f"{Captioner.load('data', 'cpu').caption('photos/1.png').text}\n"
    assert (photos / "2.txt").read_text() == "by hand"
    (photos / "0.png").unlink()
    monkeypatch.setattr(Captioner, "load", refuse_to_load)
    for whole in ([], ["--box", "0,0,1,1"]):
        again = run("photos", "--write", "txt", *whole).stderr
        assert "written to txt: 0; skipped, since they exist: 3" in again


def test_a_text_file_that_appears_meanwhile_stays(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call_before(monkeypatch, Captioner, "load", lambda *_: (photos / "2.txt").write_text("by hand"))
    assert "written to txt: 2; skipped, since they exist: 1" in run("photos", "--write", "txt").stderr
    assert (photos / "2.txt").read_text() == "by hand"


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize("asked", [[], ["--ask", "the left and 0.5,0,1,1"], ["--box", "0,0,30,40"]])
def test_an_interrupted_file_of_captions_goes_on(asked: list[str]) -> None:
    """The file then holds what --json prints, in whichever order it was made."""
    write = (*asked, "--write", "out.jsonl")
    run("photos/2.png", *write)
    first = read_rows(Path("out.jsonl"))
    count = len(first)
    assert (
        f"written to out.jsonl: {2 * count}; skipped, since they exist: {count}"
        in run("photos", *write).stderr
    )
    rows = read_rows(Path("out.jsonl"))
    assert rows[:count] == first
    printed = [json.loads(line) for line in run("photos", *asked, "--json").stdout.splitlines()]
    assert sorted(map(without_score, rows)) == sorted(map(without_score, printed))


def test_a_second_command_that_writes_to_the_same_file_is_refused(photos: Path) -> None:
    """Each would write only the captions that it knows."""
    with open_output("out.jsonl", Printer(False, False, False), [], []):
        refused = run("photos", "--write", "out.jsonl", code=1)
    assert f"into out.jsonl is under way in this folder already, by process {os.getpid()}" in refused.stderr
    run("photos/1.png", "--write", "out.jsonl")
    assert {path.name for path in photos.parent.iterdir() if path.is_file()} == {"out.jsonl"}


@pytest.mark.usefixtures("photos")
def test_each_box_in_pixels_has_its_caption() -> None:
    for box in ("0,0,30,40", "30,0,60,40"):
        args = ("photos/1.png", "--box", box, "--write", "out.jsonl")
        assert "written to out.jsonl: 1; skipped, since they exist: 0" in run(*args).stderr
    assert [row["box"] for row in read_rows(Path("out.jsonl"))] == [[0, 0, 0.5, 1], [0.5, 0, 1, 1]]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow no such names")
def test_a_file_name_need_not_be_utf_8(photos: Path) -> None:
    (photos / "1.png").rename(photos / os.fsdecode(b"\xff.png"))
    for written in (3, 0):
        result = run("photos", "--write", "out.jsonl")
        assert f"written to out.jsonl: {written}; skipped, since they exist: {3 - written}" in result.stderr
    assert "photos/\\xff.png" in [row["path"] for row in read_rows(Path("out.jsonl"))]


@pytest.mark.usefixtures("photos")
def test_ctrl_c_keeps_the_captions_that_were_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Captioner.caption_each

    def interrupted(*args: Any) -> Iterator[Any]:
        yield next(made(*args))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Captioner, "caption_each", interrupted)
        stopped = run("photos", "--write", "out.jsonl", code=1)
    assert "Stopped. Run the same command again to go on." in stopped.stderr
    assert [row["path"] for row in read_rows(Path("out.jsonl"))] == ["photos/1.png"]
    assert "out.jsonl: 2; skipped, since they exist: 1" in run("photos", "--write", "out.jsonl").stderr


@pytest.mark.usefixtures("photos")
def test_the_captions_of_a_batch_are_in_the_file_before_the_next_batch_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A batch takes a minute on a slow machine, and a kill may come at any time."""
    made, seen = Captioner.caption_each, []

    def watched(*args: Any) -> Iterator[Any]:
        for answer in made(*args):
            seen.append(len(read_rows(Path("out.jsonl"))) if Path("out.jsonl").exists() else 0)
            yield answer

    monkeypatch.setattr("pipeline.regions.captioner.BATCH_SIZE", 2)
    monkeypatch.setattr("vlm.files.caption_output._SAVE_SECONDS", 0.0)
    monkeypatch.setattr(Captioner, "caption_each", watched)
    run("photos", "--write", "out.jsonl")
    assert seen == [0, 0, 2]


@pytest.mark.parametrize(
    ("request_", "said"), [("What color is the dog?", True), ("what is on the left?", False)]
)
def test_a_question_is_pointed_to_the_command_that_answers(request_: str, said: bool) -> None:
    result = run("none.png", "--ask", request_, code=1)
    assert ("`vlm ask` answers questions" in result.stderr) is said


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize(("command", "words"), [("caption", []), ("ask", ["What is it?"])])
def test_the_search_is_that_of_the_scores_or_the_one_that_commands_md_describes(
    monkeypatch: pytest.MonkeyPatch, tiny_params: Params, command: str, words: list[str]
) -> None:
    asked: list[GenerateParams] = []
    call_before(monkeypatch, Captioner, "caption_each", lambda _, __, generate, *___: asked.append(generate))
    run_vlm(command, "photos/1.png", *words)
    run_vlm(command, "photos/1.png", *words, "--beams", "1")
    unscored = load_checkpoint(Path("data/best.safetensors"))
    save_scored(Path("best.safetensors"), unscored, tiny_params.generate)
    run_vlm(command, "photos/1.png", *words, "--checkpoint", ".")
    search = GenerateParams(3, None, length_penalty=1, no_repeat_ngram_size=3, consensus=1)
    assert asked == [search, replace(search, beams=1), tiny_params.generate]


@pytest.mark.usefixtures("photos")
def test_regions_are_named_or_boxes() -> None:
    left = Captioner.load("data", "cpu").caption("photos/1.png", region="left").text
    for option, value, name in (
        ("--region", "left-hand side", "left"),
        ("--ask", "what is on the left?", "left"),
        ("--box", "0,0,30,40", "0,0,0.5,1"),
    ):
        assert run("photos/1.png", option, value).stdout == f"{name}: {left}\n"
    several = run("photos/1.png", "--ask", "the left and the whole image").stdout.splitlines()
    assert several[0] == f"left: {left}"
    assert several[1].startswith("full: ")


def test_bad_files_are_sentences_once_for_all_regions_and_the_others_have_captions(photos: Path) -> None:
    (photos / "0.png").write_bytes(b"no image")
    Image.new("RGB", (50, 30)).save(photos / "4.png")
    Image.new("RGB", (1000, 100)).save(photos / "5.png")
    args = ("--box", "0,0,60,40", "--max-megapixels", "0.05")
    result = run("photos", "none.png", *args, code=1)
    assert len(result.stdout.splitlines()) == 3
    missing, broken, small, large = errors(result)
    assert "none.png does not exist" in missing
    assert "photos/0.png is not a readable image" in broken
    assert "photos/4.png: The box 0,0,60,40px reaches beyond the image of 50 x 30 pixels" in small
    assert "photos/5.png" in large
    assert "max_megapixels is 0.05" in large
    assert len(errors(run("photos/0.png", "photos/1.png", "--ask", "the left and the right", code=1))) == 1


@pytest.mark.parametrize(
    ("command", "number"), [(["caption", "a.png"], "nan"), (["caption", "a.png"], "0"), (["app"], "1000")]
)
def test_a_limit_is_a_number_that_pillow_can_keep(command: list[str], number: str) -> None:
    result = run_vlm(*command, "--max-megapixels", number, code=2)
    assert "Invalid value for '--max-megapixels'" in result.stderr


@pytest.mark.usefixtures("no_models")
@pytest.mark.parametrize(
    ("args", "code", "sentence"),
    [
        (["--ask", "the top corner"], 1, "'the top corner'"),
        (["--region", "left and right"], 1, "left and right"),
        (["--box", "1,2"], 1, "'1,2'"),
        (["--box", "0,0,1,1", "--region", "left"], 2, "--ask, --region and --box"),
        (["--device", "gpu"], 2, "unknown device 'gpu'. Use one of: auto, cpu, cuda"),
        (["--write", "out.csv"], 2, "'out.csv'"),
        (["--write", "txt", "--json"], 2, "--write and --json"),
        (["--write", "txt", "--ask", "the left and the right"], 1, "whole images, not of left, right"),
        (["--write", "txt", "--region", "left"], 1, "whole images, not of left"),
        (["--write", "txt", "--ask", "the whole image and the left"], 1, "whole images, not of left"),
        (["--write", "txt", "photos/1.jpg"], 1, "photos/1.png and photos/1.jpg would share photos/1.txt"),
        (["--write", "photos/other.jsonl"], 1, "other.jsonl:1 is not a line of `vlm caption`"),
    ],
)
def test_what_cannot_be_asked_is_said_before_loading(args: list[str], code: int, sentence: str) -> None:
    assert sentence in run("photos/1.png", *args, code=code).stderr
    run("none.png", code=1)


def test_a_single_image_that_cannot_be_read_is_refused_before_loading(no_models: Path) -> None:
    (no_models / "1.jpg").write_text("no image")
    assert "photos/1.jpg is not a readable image" in run("photos/1.jpg", code=1).stderr
    assert "max_megapixels is 0.001" in run("photos/1.png", "--max-megapixels", "0.001", code=1).stderr


@pytest.mark.parametrize("checkpoint", ["data/best", "data"])
def test_a_checkpoint_that_dvc_is_making_is_not_missing(here: Path, checkpoint: str) -> None:
    """`dvc repro` removes a stage's outputs before it writes them again; other files it does not make."""
    Image.new("RGB", (60, 40)).save(here / "1.png")
    at_work = f"DVC is at work (process {os.getpid()}: dvc repro). Fix: wait until it has ended"
    # There is no process of the other number: a killed one left the lock.
    for process, sentence in ((os.getpid(), at_work), (2**22 + 1, "run `dvc repro`")):
        write_dvc_lock(process)
        assert sentence in run("1.png", "--checkpoint", checkpoint, code=1).stderr
        assert "DVC" not in run("1.png", "--checkpoint", "models/best", code=1).stderr


@pytest.mark.usefixtures("photos")
def test_a_checkpoint_that_is_there_is_used_whatever_dvc_does() -> None:
    write_dvc_lock(os.getpid())
    run("photos/1.png", "--beams", "1")
    Path(".dvc/tmp/rwlock").write_text("{")
    run("photos/1.png", "--beams", "1")
