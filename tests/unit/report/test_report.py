"""The report page of a tiny made-up run.

Run: .venv/bin/python -m pytest tests/unit/report/test_report.py
"""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from pipeline.captions import (
    CaptionRecord,
    read_captions,
    write_captions,
)
from pipeline.errors import PipelineError
from pipeline.files.json_files import write_json, write_jsonl
from pipeline.report.gallery import choose_ranks
from pipeline.report.report import ReportInputs, write_report
from tests.chromium import Chromium
from tests.report_lab import PARAMS, PageReader, page_text


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
        "test: 4 images with 8 captions.",
    ):
        assert text in reader.text
    # region_images: 1, of two.
    assert "a corner of image_3" not in reader.text
    assert "runtime." not in reader.text
    assert str(tmp_path) not in page


def test_colours_said_instead_of_others_are_counted(run: ReportInputs, tmp_path: Path) -> None:
    """A reference of each of four images says brown, two show a blue star, and all captions say orange.

    Of the objects' colours the dataset knows blue alone: by the truth, orange is no colour of a shape.
    """
    tables = re.findall(r'<table class="confusions">(.*?)</table>', page_text(run, tmp_path / "i.html"), re.S)
    shown = [" ".join(re.sub("<[^>]*>", " ", table).split()) for table in tables]
    assert shown == [
        "Against the references (test images: 4)"
        " in a reference orange brown none precision % recall % orange 0.00 brown 4 0.00 none",
        "Against the truth: single objects (images of one object: 2)"
        " true colour blue none precision % recall % blue 2 0.00 none",
        "Against the truth: region crops (crops of one object: 1)"
        " true colour blue none precision % recall % blue 1 0.00 none",
    ]


def test_a_run_of_one_epoch_has_no_lead(run: ReportInputs, tmp_path: Path) -> None:
    content = json.loads(run.evaluation.read_text())
    del content["choice"], content["by_epoch"]["1"]
    write_json(run.evaluation, content)
    page = page_text(run, tmp_path / "index.html")
    assert "Epoch 2 of 1 is the best" in page
    assert "1.50 behind" not in page


def test_a_dataset_without_colours_has_no_tables_of_them(run: ReportInputs, tmp_path: Path) -> None:
    records = [CaptionRecord(r.image_id, r.split, ("a dog",)) for r in read_captions(run.captions)]
    write_captions(run.captions, records)
    said = [{"image_id": r.image_id, "caption": "a cat"} for r in records if r.split == "test"]
    write_jsonl(run.predictions / "epoch_002_test.jsonl", said)
    write_jsonl(run.regions / "regions.jsonl", [])
    assert 'class="confusions"' not in page_text(run, tmp_path / "index.html")


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


def test_an_image_replaced_since_it_was_listed_is_not_shown(run: ReportInputs, tmp_path: Path) -> None:
    """Its caption would stand beside another picture."""
    Image.new("RGB", (43, 30)).save(tmp_path / "image_3.png")
    with pytest.raises(PipelineError, match=r"image_3\.png has changed since it was listed; run `dvc repro`"):
        write_report(run, tmp_path / "index.html", PARAMS)


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
