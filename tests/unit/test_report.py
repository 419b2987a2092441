"""The report page of a tiny made-up run: `pytest tests/unit/test_report.py`."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline.captions import (
    CaptionRecord,
    ImageRecord,
    SceneObject,
    Split,
    read_captions,
    write_captions,
    write_images,
)
from pipeline.dataset_card import dataset_card
from pipeline.errors import PipelineError
from pipeline.gallery import _choose
from pipeline.params import ReportParams
from pipeline.records import sha256_of_file, write_json, write_jsonl
from pipeline.report import ReportInputs, write_report
from pipeline.report_colors import color_tables
from tests.chromium import Chromium

SCORES = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "cider", "rouge_l")
PARAMS = ReportParams(examples=4, region_images=1)
SAMPLE_PARAMS = Path(__file__).parents[2] / "profiles" / "sample.yaml"
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\u202eabc\u200f"


def _row(value: float) -> dict[str, float]:
    return dict.fromkeys(SCORES, value)


def _colors(precision: float) -> dict[str, float]:
    return {"precision": precision, "recall": 40.5, "said": 3, "named": 4}


@pytest.fixture
def run(tmp_path: Path) -> ReportInputs:
    """A finished run of two epochs and four test images."""
    images, captions, said = [], [], []
    for index in range(6):
        image_id = f"image_{index}"
        path = tmp_path / f"{image_id}.png"
        Image.new("RGB", (40 + index, 30), (40 * index, 90, 120)).save(path)
        images.append(ImageRecord(image_id, str(path), sha256_of_file(path), 40 + index, 30))
        split: Split = "train" if index == 0 else "dev" if index == 1 else "test"
        texts = (f"a dog number {index} runs", f"the brown dog {index} is running")
        objects = (SceneObject("star", "blue", "small", (0, 0, 1, 1)),)
        captions.append(CaptionRecord(image_id, split, texts, objects if index < 4 else ()))
        if split == "test":
            said.append({"image_id": image_id, "caption": f"a dog runs like {index}, an orange star"})
    write_images(tmp_path / "images.jsonl", images)
    write_captions(tmp_path / "captions.jsonl", captions)
    card = dataset_card("scenes", "generated scenes, seed 0.", images, captions)
    (tmp_path / "dataset.md").write_text(card, encoding="utf-8")
    write_jsonl(tmp_path / "predictions" / "epoch_002_test.jsonl", said)

    Image.new("RGB", (20, 15), "red").save(tmp_path / "crop.png")
    answers: list[dict[str, Any]] = [
        {
            "image_id": image_id,
            "request": "Describe the top left",
            "region": "top-left",
            "box": [0, 0, 0.5, 0.5],
            "caption": f"a corner of {image_id}",
            "crop": "crop.png",
        }
        for image_id in ("image_2", "image_3")
    ]
    answers[0]["object"] = {"shape": "star", "color": "blue", "size": "small", "box": [0, 0, 1, 1]}
    answers[0]["correct"] = {"shape": True, "color": False}
    write_jsonl(tmp_path / "regions.jsonl", answers)
    write_json(tmp_path / "regions.json", {"shape_accuracy": 61.5})

    by_epoch = {str(epoch): {"dev": _row(10 + epoch), "test": _row(9.5 + epoch)} for epoch in (1, 2)}
    evaluation = {
        "best_epoch": 2,
        "training": "0f" * 32,
        "selected_by": "bleu_4",
        "images": {"dev": 1, "test": 4},
        "dev": _row(12),
        "test": {**_row(11.5), "words": 5.0},
        "intervals": {"test": {score: {"low": 10.25, "high": 12.75} for score in SCORES}},
        "choice": {"next_best_epoch": 1, "lead": 1.5, "low": -2.5, "high": 3.5, "distinguishable": False},
        "controls": {"constant": _row(3.25), "unheard_of": {**_row(4), "novelty": 77.75}},
        "constant_caption": "a dog that is always there",
        "colors": {"model": _colors(66.5), "constant": _colors(12.5)},
        "distinct_captions": 43.2,
        "by_epoch": by_epoch,
    }
    write_json(tmp_path / "evaluate.json", evaluation)
    header = ["epoch", "dev_loss", *(f"{split}_{score}" for split in ("dev", "test") for score in SCORES)]
    lines = [",".join(header), *(",".join([str(epoch)] + ["12.5"] * 13) for epoch in (1, 2))]
    (tmp_path / "epochs.csv").write_text("\n".join(lines))
    steps = [f"{step},{1 + step // 500},{9 / step},0.001,1.5" for step in range(1, 1000)]
    header_line = "step,epoch,loss,learning_rate,gradient_norm"
    (tmp_path / "training.csv").write_text("\n".join([header_line, *steps]))
    return ReportInputs(
        params=SAMPLE_PARAMS,
        images=tmp_path / "images.jsonl",
        captions=tmp_path / "captions.jsonl",
        card=tmp_path / "dataset.md",
        evaluation=tmp_path / "evaluate.json",
        training_curve=tmp_path / "training.csv",
        epoch_curve=tmp_path / "epochs.csv",
        predictions=tmp_path / "predictions",
        regions=tmp_path,
        region_metrics=tmp_path / "regions.json",
    )


def _page(run: ReportInputs, output: Path, params: ReportParams = PARAMS) -> str:
    write_report(run, output, params)
    return output.read_text(encoding="utf-8")


class _Reader(HTMLParser):
    """Checks that tags balance and ids are unique; keeps texts, tags and addresses."""

    VOID = frozenset(["meta", "img", "br", "link", "input", "hr"])

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_page_shows_the_run(run: ReportInputs, tmp_path: Path) -> None:
    page = _page(run, tmp_path / "out" / "index.html")
    reader = _Reader(page)
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
        "Epoch 1 is 1.50 behind, on the same draws of images -2.50 to 3.50",
        "it could be the better one",
        "a dog that is always there",
        "66.50",
        "0f0f0f",
        "Loss on dev",
        "generated scenes, seed 0.",
        "Captions that several images have: 0.",
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
    tables = re.findall(r'<table class="confusions">(.*?)</table>', _page(run, tmp_path / "i.html"), re.S)
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
    page = _page(run, tmp_path / "index.html")
    assert "Epoch 2 of 1 is the best" in page
    assert "behind" not in page


def test_a_dataset_without_colours_has_no_tables_of_them(run: ReportInputs, tmp_path: Path) -> None:
    records = [CaptionRecord(r.image_id, r.split, ("a dog",)) for r in read_captions(run.captions)]
    write_captions(run.captions, records)
    said = [{"image_id": r.image_id, "caption": "a cat"} for r in records if r.split == "test"]
    write_jsonl(run.predictions / "epoch_002_test.jsonl", said)
    write_jsonl(run.regions / "regions.jsonl", [])
    assert 'class="confusions"' not in _page(run, tmp_path / "index.html")


def test_page_is_well_formed_and_fetches_nothing(run: ReportInputs, tmp_path: Path) -> None:
    reader = _Reader(_page(run, tmp_path / "index.html"))
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
    assert _page(run, tmp_path / "a" / "index.html") == _page(run, tmp_path / "b.html")


def _inject(run: ReportInputs) -> None:
    """Put markup into every text of the run."""
    captions = [
        CaptionRecord(row["image_id"], row["split"], (HOSTILE, "a dog"))
        for row in map(json.loads, run.captions.read_text().splitlines())
    ]
    rows = [json.dumps({"image_id": c.image_id, "split": c.split, "captions": c.captions}) for c in captions]
    run.captions.write_text("\n".join(rows))
    predictions = run.predictions / "epoch_002_test.jsonl"
    said = [json.loads(line) for line in predictions.read_text().splitlines()]
    surrogate = "a lone \ud800 surrogate"
    lines = [json.dumps({**row, "caption": f"{HOSTILE} {surrogate}"}) for row in said]
    predictions.write_text("\n".join(lines))
    answers = run.regions / "regions.jsonl"
    row = json.loads(answers.read_text().splitlines()[0])
    hostile = dict.fromkeys(("request", "region", "caption"), HOSTILE)
    shown = {"shape": HOSTILE, "color": HOSTILE, "size": HOSTILE, "box": [0, 0, 1, 1]}
    write_jsonl(answers, [{**row, **hostile, "object": shown, "correct": {HOSTILE: True}}])
    run.card.write_text(
        f"# {HOSTILE}\n\n`{HOSTILE}` {HOSTILE}\n\n![x](http://example.org/x.png) <http://a.b>\n"
    )
    evaluation = json.loads(run.evaluation.read_text())
    texts = {"constant_caption": HOSTILE, "training": HOSTILE, "colors": {HOSTILE: _colors(1)}}
    write_json(run.evaluation, {**evaluation, **texts})


def test_text_from_outside_is_escaped(run: ReportInputs, tmp_path: Path) -> None:
    _inject(run)
    reader = _Reader(_page(run, tmp_path / "index.html"))
    assert "script" not in reader.tags
    assert not [name for _, name, _ in reader.attributes if name.startswith("on")]
    assert not {"link", "iframe", "object"} & reader.tags
    assert all(value.startswith("data:") for _, name, value in reader.attributes if name == "src")
    # Captions, references, the region's answer and its colour, the card, and what evaluate.json says.
    assert reader.text.count("<script>alert(1)</script>") >= 4 + 4 + 4 + 2 + 3


def test_hostile_image_ids_are_escaped(run: ReportInputs, tmp_path: Path) -> None:
    for path in (run.images, run.captions, run.predictions / "epoch_002_test.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            row["image_id"] += HOSTILE
        write_jsonl(path, rows)
    answers = run.regions / "regions.jsonl"
    rows = [json.loads(line) for line in answers.read_text().splitlines()]
    write_jsonl(answers, [{**row, "image_id": row["image_id"] + HOSTILE} for row in rows])
    reader = _Reader(_page(run, tmp_path / "index.html"))
    assert "script" not in reader.tags
    assert not [name for _, name, _ in reader.attributes if name.startswith("on")]


@pytest.mark.parametrize(
    "key",
    [
        "best_epoch",
        "controls",
        "dev",
        "test.cider",
        "by_epoch.1.test.bleu_4",
        "intervals.test.cider.low",
        "colors.constant.recall",
        "controls.constant.rouge_l",
    ],
)
def test_missing_keys_are_named(run: ReportInputs, tmp_path: Path, key: str) -> None:
    content = json.loads(run.evaluation.read_text())
    *parents, last = key.split(".")
    section = content
    for parent in parents:
        section = section[parent]
    del section[last]
    write_json(run.evaluation, content)
    with pytest.raises(PipelineError, match=rf"evaluate\.json: {key}.* is missing"):
        write_report(run, tmp_path / "index.html", PARAMS)


def test_files_that_do_not_fit_are_named(run: ReportInputs, tmp_path: Path) -> None:
    output = tmp_path / "index.html"
    with pytest.raises(PipelineError, match=r"cannot read .*dataset\.md: .*; run `dvc repro prepare`"):
        write_report(replace(run, card=tmp_path / "no" / "dataset.md"), output, PARAMS)
    with pytest.raises(PipelineError, match=r"epoch_002_test\.jsonl"):
        write_report(replace(run, predictions=tmp_path), output, PARAMS)
    with pytest.raises(PipelineError, match=r"regions\.csv.*No such file"):
        write_report(replace(run, epoch_curve=tmp_path / "regions.csv"), output, PARAMS)
    with pytest.raises(PipelineError, match=r"epochs\.csv:2 holds None for step"):
        write_report(replace(run, training_curve=run.epoch_curve), output, PARAMS)
    write_jsonl(run.regions / "regions.jsonl", [{"image_id": "image_2", "box": [0, 0, 1, 1]}])
    with pytest.raises(PipelineError, match=r"regions\.jsonl:1: crop is missing"):
        write_report(run, output, PARAMS)
    rows = [{"image_id": "image_2", "caption": "x", "object": {"shape": "star"}}]
    write_jsonl(run.regions / "regions.jsonl", rows)
    with pytest.raises(PipelineError, match=r"regions\.jsonl:1 holds no object with its caption"):
        color_tables({}, [], run.regions / "regions.jsonl")
    write_jsonl(run.predictions / "epoch_002_test.jsonl", [{"image_id": "image_2", "caption": "x"}])
    with pytest.raises(PipelineError, match="no caption for the test image 'image_3'"):
        write_report(run, output, PARAMS)


@pytest.mark.parametrize(("total", "count"), [(0, 4), (1, 4), (3, 24), (4, 2), (10, 9), (100, 24)])
def test_examples_are_shared_out_without_repeats(total: int, count: int) -> None:
    groups = _choose(total, count)
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
    _page(run, output)
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
    run: ReportInputs, tmp_path: Path, browser: Chromium
) -> None:
    """Had anything got through, an alert would be open, or an image be asked for."""
    _inject(run)
    output = tmp_path / "index.html"
    _page(run, output)
    browser.open(output.as_uri())
    assert browser.fetched() == [output.as_uri()]
    assert browser.complaints() == []
    assert browser.run("return document.scripts.length") == 0
    assert browser.run("return document.querySelectorAll('img[src=x]').length") == 0
    assert "<script>alert(1)</script>" in browser.text("main")
