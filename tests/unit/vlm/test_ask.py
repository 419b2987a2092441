"""`vlm ask`, `Captioner.answer`: a model that was trained on questions answers, another says that it cannot.

Run: .venv/bin/python -m pytest tests/unit/vlm/test_ask.py
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from pipeline import Captioner
from pipeline.errors import PipelineError
from pipeline.model.checkpoints import load_checkpoint, save_checkpoint
from vlm.main import main

QUESTION = "What color is the dog?"


@pytest.fixture(scope="module")
def captions_alone(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that was trained without questions."""
    trained = load_checkpoint(tiny_checkpoint)
    info = replace(trained.info, data={"source": "scenes", "name": "scenes", "images": 16})
    path = tmp_path_factory.mktemp("alone") / "best.safetensors"
    save_checkpoint(path, {**trained.projector.state_dict(), **trained.adapters}, info)
    return path


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    noise = np.random.default_rng(0)
    for number in (1, 2):
        small = Image.fromarray(noise.integers(0, 256, (3 + number, 4, 3), dtype=np.uint8))
        small.resize((60, 40)).save(tmp_path / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*args: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["ask", *map(str, args), "--device", "cpu"])
    assert result.exit_code == code, result.output
    return result


def test_each_image_and_region_has_an_answer(tiny_checkpoint: Path, photos: Path) -> None:
    captioner = Captioner.load(tiny_checkpoint, device="cpu")
    whole, left = (captioner.answer(QUESTION, ["1.png", "2.png"], region) for region in (None, "left"))
    assert [answer.region.name for answer in whole + left] == ["full"] * 2 + ["left"] * 2
    assert whole[0] == captioner.answer(QUESTION, photos / "1.png")
    # Another question, and no question, are something else to the model.
    assert captioner.answer("Why?", "1.png").score != whole[0].score != captioner.caption("1.png").score

    assert run("1.png", QUESTION, "--checkpoint", tiny_checkpoint).stdout == f"{whole[0].text}\n"
    lines = run(photos, QUESTION, "--checkpoint", tiny_checkpoint, "--region", "left").stdout.splitlines()
    assert lines == [f"{photos / f'{n}.png'}: left: {a.text}" for n, a in zip((1, 2), left, strict=True)]
    row = json.loads(
        run("2.png", QUESTION, "--box", "0,0,0.5,1", "--json", "--checkpoint", tiny_checkpoint).stdout
    )
    assert (row["path"], row["question"], row["answer"]) == ("2.png", QUESTION, left[1].text)
    assert "caption" not in row


def test_one_bad_file_stops_no_others(tiny_checkpoint: Path, photos: Path) -> None:
    (photos / "0.png").write_text("no image")
    result = run("0.png", "1.png", QUESTION, "--checkpoint", tiny_checkpoint, code=1)
    assert result.stdout.startswith("1.png: ")
    assert "Error: 0.png" in result.stderr


@pytest.mark.usefixtures("photos")
def test_a_model_that_was_trained_on_captions_alone_says_so(captions_alone: Path) -> None:
    captioner = Captioner.load(captions_alone, device="cpu")
    with pytest.raises(PipelineError, match="trained on captions alone and cannot answer questions"):
        captioner.answer(QUESTION, "1.png")
    result = run("1.png", QUESTION, "--checkpoint", captions_alone, code=1)
    assert "trained on captions alone" in result.stderr


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize("question", ["", "  ", "w" * 2001])
def test_questions_of_no_words_or_too_many_are_refused(tiny_checkpoint: Path, question: str) -> None:
    with pytest.raises(PipelineError, match="1 to 2,000 are allowed"):
        Captioner.load(tiny_checkpoint, device="cpu").answer(question, "1.png")
