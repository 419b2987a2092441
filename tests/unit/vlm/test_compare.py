"""`vlm compare`: scores of two systems, and the images whose captions changed most, printed and on a page.

Two runs of a project are compared in tests/e2e/test_dvc.py.
Run: .venv/bin/python -m pytest tests/unit/vlm/test_compare.py
"""

import os
import re
from functools import partial
from pathlib import Path

import pytest
from dulwich.repo import Repo
from dvc.repo import Repo as DvcRepo
from PIL import Image

from pipeline.captions import CaptionRecord, ImageRecord, write_captions, write_images
from pipeline.files.json_files import sha256_of_file, write_jsonl
from tests.unit.project import write_dvc_lock
from tests.vlm_command import run_vlm

REFERENCES = {"1.png": "a red dog runs fast", "2.png": "two men sit on grass", "3.png": "a cat sleeps here"}
HOSTILE = "<script>alert(1)</script>\x1b[31m"
FIRST = {**REFERENCES, "1.png": HOSTILE}


@pytest.fixture(autouse=True)
def _run(here: Path) -> None:
    """The current folder: a run's lists and images without 2.png, and two files of predictions."""
    images = []
    for image_id in REFERENCES:
        Image.new("RGB", (30, 20)).save(image_id)
        images.append(ImageRecord(image_id, image_id, sha256_of_file(Path(image_id)), 30, 20))
    (here / "2.png").unlink()
    write_images(Path("data/images.jsonl"), images)
    records = [CaptionRecord(image_id, "test", (text,)) for image_id, text in REFERENCES.items()]
    write_captions(Path("data/captions.jsonl"), [*records, CaptionRecord("4.png", "train", ("a bird",))])
    save("a.jsonl", FIRST)
    save("b.jsonl", {**REFERENCES, "3.png": "a cat sleeps"})


def save(name: str, captions: dict[str, str]) -> None:
    write_jsonl(Path(name), [{"image_id": key, "caption": caption} for key, caption in captions.items()])


compare = partial(run_vlm, "compare")


def test_scores_stand_side_by_side_with_the_interval_of_their_difference() -> None:
    printed = compare("a.jsonl", "b.jsonl").stdout
    assert "3 images" in printed
    first, second, difference, low, high = map(
        float, re.findall(r"[-+]?[\d.]+", printed.split("BLEU-1")[1].splitlines()[0])
    )
    assert difference == pytest.approx(second - first, abs=0.011)
    assert low <= difference <= high
    assert compare("a.jsonl", "a.jsonl").stdout.count("+0.00   0.00 to 0.00") == 6


def test_the_images_that_changed_most_come_first_with_both_captions() -> None:
    printed = compare("a.jsonl", "b.jsonl").stdout
    assert "Captions that differ: 2." in printed
    assert re.findall(r"^  (\d\.png): (\d+) -> (\d+)$", printed, re.M)[0][:2] == ("1.png", "0")
    assert "2.png" not in printed
    assert "A: <script>alert(1)</script>?[31m\n    B: a red dog runs fast" in printed  # nothing for terminals


def test_the_page_shows_them_with_their_images_and_no_markup_from_outside() -> None:
    Path("3.png").unlink()
    compare("a.jsonl", "b.jsonl", "--page", "out/page.html")
    page = Path("out/page.html").read_text(encoding="utf-8")
    assert page.count("<article") == 2
    assert page.count("<img") == 1  # the other's file is gone
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "a red dog runs fast" in page


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("a.jsonl", "nowhere"), "'nowhere' has no metrics/evaluate.json"),
        (("a.jsonl", "nowhere.jsonl"), "'nowhere.jsonl' does not exist. Fix: "),
        (("a.jsonl", "long" * 80), "has no metrics/evaluate.json: "),
        (("a.jsonl", "workspace"), "metrics/evaluate.json does not exist"),
        (("a.jsonl", "few.jsonl"), "no prediction for 1 image: '3.png'"),
        (("a.jsonl", "b.jsonl", "--references", "few.jsonl"), "captions is None"),
    ],
)
def test_what_cannot_be_compared_is_said(args: tuple[str, ...], sentence: str) -> None:
    save("few.jsonl", {key: text for key, text in FIRST.items() if key != "3.png"})
    assert sentence in compare(*args, code=1).stderr


def test_a_run_that_dvc_is_making_is_not_missing() -> None:
    write_dvc_lock(os.getpid())
    assert (
        "metrics/evaluate.json does not exist yet: DVC is at work"
        in compare("a.jsonl", "workspace", code=1).stderr
    )
    assert "Page: " in compare("a.jsonl", "b.jsonl").stdout


def test_scores_without_a_best_epoch_and_a_project_without_commits_are_said() -> None:
    Path("metrics").mkdir()
    Path("metrics/evaluate.json").write_text("{}")
    said = compare("a.jsonl", "workspace", code=1).stderr
    assert "metrics/evaluate.json of 'workspace' names no best_epoch. Fix: " in said
    Repo.init(".").close()
    DvcRepo.init().close()
    assert "'nosuch' has no metrics/evaluate.json" in compare("nosuch", "HEAD", code=1).stderr
