"""The report page of a tiny made-up run: it shows the run, and text from outside as text."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from pipeline.errors import PipelineError
from pipeline.files.json_files import write_json
from pipeline.report.gallery import choose_ranks
from pipeline.report.report import ReportInputs, write_report
from tests.chromium import Chromium
from tests.unit.report.page import PARAMS, PageReader, page_text

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\u202eabc\u200f"


def test_page_shows_the_run(run: ReportInputs, tmp_path: Path) -> None:
    page = page_text(run, tmp_path / "out" / "index.html")
    reader = PageReader(page)
    for text in (
        "a dog runs like 3",
        "the brown dog 3 is running",
        "a corner of image_2",
        "Describe the top left",
        "small blue star",
        "shape right",
        "color wrong",
        "train.learning_rate",
        "unheard of",
        "77.75",
        "distinct captions",
        "61.50",
        "highest\n    BLEU-4 on the 1 dev images",
        "10.25 to 12.75",
        "CIDEr-D behind",
        "7.50 to 9.25",
        "Epoch 1 is 1.50 behind, on the same draws of images -2.50 to 3.50",
        "it could be the better one",
        "a dog that is always there",
        "66.50",
        "0f0f0f",
        "Loss on dev",
        "trained on 1 images of scenes",
        "12 captions in all",
    ):
        assert text in reader.text
    # region_images: 1, of two.
    assert "a corner of image_3" not in reader.text
    assert "runtime." not in reader.text
    assert str(tmp_path) not in page


def test_a_run_of_one_epoch_has_no_lead(run: ReportInputs, tmp_path: Path) -> None:
    content = json.loads(run.evaluation.read_text())
    del content["choice"], content["by_epoch"]["1"]
    write_json(run.evaluation, content)
    page = page_text(run, tmp_path / "index.html")
    assert "Epoch 2 of 1 is the best" in page
    assert "1.50 behind" not in page


def test_a_model_below_a_control_is_called_so(run: ReportInputs, tmp_path: Path) -> None:
    assert "say less" not in page_text(run, tmp_path / "index.html")
    content = json.loads(run.evaluation.read_text())
    content["controls"]["consensus"] = {**content["controls"]["constant"], "cider": 34.5}
    write_json(run.evaluation, content | {"consensus_images": 20})
    page = page_text(run, tmp_path / "index.html")
    assert "The captions say less than “consensus of the nearest”: CIDEr 11.50 against 34.50." in page
    assert "the captions of the 20 most similar training images" in page


def test_page_is_well_formed_and_fetches_nothing(run: ReportInputs, tmp_path: Path) -> None:
    reader = PageReader(page_text(run, tmp_path / "index.html"))
    assert len(reader.ids) == len(set(reader.ids))
    assert "script" not in reader.tags
    for tag, name, value in reader.attributes:
        assert not name.startswith("on")
        if name in ("src", "href", "xlink:href", "srcset", "data", "poster", "action"):
            assert value.startswith(("#", "data:image/jpeg;base64,"))
            assert value[1:] in reader.ids or tag == "img"
        if name == "style":
            assert not re.search(r"url\((?!#)", value)
    images = [name for tag, name, _ in reader.attributes if tag == "img"]
    assert images.count("alt") == images.count("src") == 4 + 2


def test_equal_input_gives_equal_bytes(run: ReportInputs, tmp_path: Path) -> None:
    assert page_text(run, tmp_path / "a" / "index.html") == page_text(run, tmp_path / "b.html")


@pytest.mark.parametrize(("total", "count"), [(0, 4), (1, 4), (3, 24), (4, 2), (10, 9), (100, 24)])
def test_examples_are_shared_out_without_repeats(total: int, count: int) -> None:
    groups = choose_ranks(total, count)
    ranks = [rank for group in groups.values() for rank in group]
    assert len(ranks) == len(set(ranks)) == min(total, count)
    assert all(0 <= rank < total for rank in ranks)
    if total == 100:
        assert groups["best"] == [0, 1, 2, 3, 4, 5]
        assert groups["worst"] == [94, 95, 96, 97, 98, 99]
        assert 50 in groups["median"]


# --- files that do not fit -----------------------------------------------------------------------------


def test_an_image_replaced_since_it_was_listed_is_not_shown(run: ReportInputs, tmp_path: Path) -> None:
    """Its caption would stand next to another picture."""
    Image.new("RGB", (43, 30)).save(tmp_path / "image_3.png")
    with pytest.raises(PipelineError, match=r"image_3\.png has changed"):
        write_report(run, tmp_path / "index.html", PARAMS)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("predictions/epoch_002_test.jsonl", '{"image_id": "image_2", "caption": "x"}', "image_3"),
        ("predictions/epoch_002_test.jsonl", '{"image_id": ["image_2"], "caption": 1}', "TypeError"),
        ("regions.jsonl", '{"image_id": "image_2", "box": [0, 0, 1, 1]}', "'crop'"),
        ("regions.jsonl", '{"image_id": "image_2", "box": [0, 0, 1], "crop": "crop.png"}', "ValueError"),
        ("evaluate.json", "[]", "TypeError"),
        ("evaluate.json", '{"best_epoch": 2}', "'test'"),
        ("evaluate.json", '{"best_epoch": 2, "test": {}, "controls": {}, "by_epoch": {}}', "intervals"),
        ("regions.json", "1", "AttributeError"),
        ("epochs.csv", "epoch,dev_loss\n1,2\n", "dev_bleu_1"),
        ("training.csv", "step,epoch,loss,gradient_norm\n1,1,<<<<<<<,1\n", "<<<<<<<"),
        ("training.csv", "step,epoch,loss,gradient_norm\n", "no rows"),
    ],
)
def test_a_file_that_does_not_fit_the_run_is_named(
    run: ReportInputs, tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(PipelineError, match=rf"(?s){re.escape(name)}.*{re.escape(message)}.*dvc repro"):
        write_report(run, tmp_path / "index.html", PARAMS)


def test_a_file_that_is_missing_is_named(run: ReportInputs, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"epoch_002_test\.jsonl"):
        write_report(replace(run, predictions=tmp_path), tmp_path / "index.html", PARAMS)
    with pytest.raises(PipelineError, match=r"no\.csv: No such file"):
        write_report(replace(run, epoch_curve=tmp_path / "no.csv"), tmp_path / "index.html", PARAMS)


# --- text from outside ---------------------------------------------------------------------------------


@pytest.fixture
def hostile_run(run: ReportInputs) -> ReportInputs:
    """The run with markup in every text, ids too."""

    def rewrite(path: Path, **texts: object) -> None:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        rows = [{**row, **texts, "image_id": row["image_id"] + HOSTILE} for row in rows]
        path.write_text("\n".join(map(json.dumps, rows)))

    rewrite(run.images)
    rewrite(run.captions, captions=[HOSTILE, "a dog"])
    shown = {"shape": HOSTILE, "color": HOSTILE, "size": HOSTILE}
    answers = run.regions / "regions.jsonl"
    rewrite(answers, request=HOSTILE, region=HOSTILE, caption=HOSTILE, object=shown, correct={HOSTILE: True})
    predictions = run.predictions / "epoch_002_test.jsonl"
    rewrite(predictions, caption=f"{HOSTILE} a lone \ud800 surrogate")
    evaluation = json.loads(run.evaluation.read_text())
    colors = {HOSTILE: evaluation["colors"]["model"]}
    texts = {"constant_caption": HOSTILE, "training": HOSTILE, "colors": colors}
    write_json(run.evaluation, {**evaluation, **texts})
    return run


def test_text_from_outside_is_escaped(hostile_run: ReportInputs, tmp_path: Path) -> None:
    reader = PageReader(page_text(hostile_run, tmp_path / "index.html"))
    assert not {"script", "link", "iframe", "object"} & reader.tags
    assert not [name for _, name, _ in reader.attributes if name.startswith("on")]
    assert all(value.startswith("data:") for _, name, value in reader.attributes if name == "src")
    # Captions, references and ids; the region's id, answer and object; what evaluate.json says.
    assert reader.text.count("<script>alert(1)</script>") >= 3 * 4 + 6 + 3


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390, 320])
def test_a_browser_shows_the_page_from_disk(
    run: ReportInputs, tmp_path: Path, browser: Chromium, width: int, dark: bool
) -> None:
    output = tmp_path / "out" / "index.html"
    page_text(run, output)
    browser.open(output.as_uri(), width, dark=dark)
    assert browser.text("h1") == "Captioning report"
    assert browser.fetched() == [output.as_uri()]
    assert browser.complaints() == []
    assert not browser.is_too_wide()
    browser.run("for (const image of document.images) image.loading = 'eager'")
    browser.wait(lambda: browser.run("return [...document.images].every((image) => image.naturalWidth > 0)"))
    red, *_ = re.findall(r"\d+", browser.run("return getComputedStyle(document.body).backgroundColor"))
    assert (int(red) < 128) == dark


def test_a_browser_runs_nothing_that_came_from_outside(
    hostile_run: ReportInputs, tmp_path: Path, browser: Chromium
) -> None:
    """Had anything got through, an alert would be open, or an image be asked for."""
    output = tmp_path / "index.html"
    page_text(hostile_run, output)
    browser.open(output.as_uri())
    assert browser.fetched() == [output.as_uri()]
    assert browser.complaints() == []
    assert browser.run("return document.scripts.length") == 0
    assert browser.run("return document.querySelectorAll('img[src=x]').length") == 0
    assert "<script>alert(1)</script>" in browser.text("main")
