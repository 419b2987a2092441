"""`vlm ask`, `Captioner.answer`: a model that was trained on questions answers, another says that it cannot.

Run: .venv/bin/python -m pytest tests/unit/vlm/test_ask.py
"""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from pipeline import Captioner
from pipeline.model.checkpoints import load_checkpoint, save_checkpoint
from tests.refusals import refusal
from tests.unit.project import refuse_to_load
from tests.vlm_command import run_vlm

PHOTOS = ["photos/1.png", "photos/2.png"]
QUESTION = "What color is the dog?"

run = partial(run_vlm, "ask", "--device", "cpu")
pytestmark = pytest.mark.usefixtures("photos")


def test_each_image_and_region_has_an_answer() -> None:
    captioner = Captioner.load("data", device="cpu")
    whole, left = (captioner.answer(QUESTION, PHOTOS, region) for region in (None, "left"))
    assert [answer.region.name for answer in whole + left] == ["full"] * 2 + ["left"] * 2
    assert whole[0] == captioner.answer(QUESTION, PHOTOS[0])
    # Another question, and no question, are something else to the model.
    assert captioner.answer("Why?", PHOTOS[0]).score != whole[0].score != captioner.caption(PHOTOS[0]).score

    assert run(PHOTOS[0], QUESTION).stdout == f"{whole[0].text}\n"
    lines = run(*PHOTOS, QUESTION, "--region", "left").stdout.splitlines()
    assert lines == [f"{path}: left: {answer.text}" for path, answer in zip(PHOTOS, left, strict=True)]
    row = json.loads(run(PHOTOS[1], QUESTION, "--box", "0,0,0.5,1", "--json").stdout)
    assert (row["path"], row["question"], row["answer"]) == (PHOTOS[1], QUESTION, left[1].text)
    assert list(row) == ["path", "region", "box", "question", "answer", "score", "finished"]
    assert "caption" not in row


def test_one_bad_file_stops_no_others(photos: Path) -> None:
    (photos / "0.png").write_text("no image")
    result = run("photos/0.png", PHOTOS[0], QUESTION, code=1)
    assert result.stdout.startswith("photos/1.png: ")
    assert "Error: photos/0.png" in result.stderr


def test_a_model_that_was_trained_on_captions_alone_says_so(tmp_path: Path) -> None:
    trained = load_checkpoint(Path("data/best.safetensors"))
    info = replace(trained.info, data={"source": "scenes", "name": "scenes", "images": 16})
    alone = tmp_path / "alone.safetensors"
    save_checkpoint(alone, {**trained.projector.state_dict(), **trained.adapters}, info)
    result = run(PHOTOS[0], QUESTION, "--checkpoint", alone, code=1)
    assert "trained on captions alone and cannot answer questions" in result.stderr


@pytest.mark.parametrize("question", ["", "  ", "w" * 2001])
def test_questions_of_no_words_or_too_many_are_refused(question: str) -> None:
    refusal(Captioner.load("data", device="cpu").answer, question, PHOTOS[0], match="1 to 2,000 are allowed")


@pytest.mark.parametrize("args", [PHOTOS[:1], [PHOTOS[0], " "]])
def test_without_a_question_nothing_is_loaded(args: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Captioner, "load", refuse_to_load)
    assert (
        "The question is missing. Fix: pass images, and then a question in quotation marks"
        in run(*args, code=2).stderr
    )


def test_files_alone_a_question_first_or_without_quotation_marks_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Captioner, "load", refuse_to_load)
    for last in (PHOTOS[1], "photos"):
        assert f"'{last}' is no question. Fix: put the question last" in run(PHOTOS[0], last, code=2).stderr
    for words in (QUESTION.split(), ["why " * 80, PHOTOS[0]]):  # longer than a file's name may be
        said = run(PHOTOS[0], *words, code=2).stderr
        assert f"'{words[0]}"[:50] in said
        assert "is no file or folder. Fix: put the question last, in quotation marks." in said
    assert "does not exist" in run("." + "why " * 80, QUESTION, code=1).stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["What is on the left?"], True),
        (["What is on the left?", "--region", "left"], False),
        (["What is on the left?", "--box", "0,0,0.5,1"], False),
        (["What is in the whole image?"], False),
        ([QUESTION], False),
    ],
)
def test_a_place_in_a_question_is_no_crop(args: list[str], said: bool) -> None:
    result = run("none.png", *args, code=1)
    assert ("the model sees the whole image" in result.stderr) is said
