"""The report page of a tiny made-up run: it shows the run, and text from outside as text."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from pipeline.files.json_files import write_json
from pipeline.params.schema import ReportParams
from pipeline.report.gallery import choose_ranks
from pipeline.report.report import ReportInputs, write_report
from tests.chromium import Chromium
from tests.refusals import refusal
from tests.unit.report.conftest import make_run

PARAMS = ReportParams(examples=4, region_images=1)
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\u202eabc\u200f"


class PageReader(HTMLParser):
    """Checks that tags balance; remembers texts, tags and attributes."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(page.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, name: str) -> list[str]:
        return [value for _, attribute, value in self.attributes if attribute == name]


def read_page(run: ReportInputs) -> PageReader:
    page = run.regions / "index.html"
    write_report(run, page, PARAMS)
    return PageReader(page)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the run, written once."""
    folder = tmp_path_factory.mktemp("report")
    write_report(make_run(folder), folder / "out" / "index.html", PARAMS)
    return folder / "out" / "index.html"


# Parted by bars.
SHOWN = """
a dog runs like 3 | the brown dog 3 is running | a corner of image_2 | Describe the top left | small blue star
| shape right | color wrong | place wrong | 50 of 120 | train.learning_rate | unheard of | 77.75 | 61.50 %
| the best on the 1 dev images | 10.25 to 12.75 | CIDEr-D, model minus control: 95 % interval | 7.50 to 9.25
| Loss on dev | 0f0f0f | 66.50
| BLEU-4 on dev does not tell epochs 1 and 2 apart (epoch 2 leads epoch 1 by 1.50 | distinct captions
| negative, the control is ahead | a dog that is always there | trained on 1 images of scenes
| 12 captions in all
"""


def test_page_shows_the_run(page: Path) -> None:
    text = " ".join(PageReader(page).text.split())
    assert [phrase for phrase in SHOWN.split("|") if phrase.strip() not in text] == []
    assert "a corner of image_3" not in text, "region_images: 1, of two"
    assert "runtime." not in text
    assert str(page.parents[1]) not in page.read_text()


def test_a_model_below_a_control_is_called_so(run: ReportInputs, page: Path) -> None:
    assert "say less" not in PageReader(page).text
    content = json.loads(run.evaluation.read_text())
    content["controls"]["consensus"] = {**content["controls"]["constant"], "cider": 34.5}
    write_json(run.evaluation, content | {"consensus_images": 20})
    text = read_page(run).text
    assert "The captions say less than “consensus of the nearest”: CIDEr-D 11.50 against 34.50." in text
    assert "the captions of the 20 most similar training images" in text


def test_page_is_well_formed_and_fetches_nothing(page: Path) -> None:
    reader = PageReader(page)
    ids = reader.values("id")
    assert len(ids) == len(set(ids))
    assert "script" not in reader.tags
    assert not [name for _, name, _ in reader.attributes if name.startswith("on")]
    for name in ("src", "href", "xlink:href", "srcset", "data", "poster", "action"):
        for value in reader.values(name):
            assert value.startswith("data:image/jpeg;base64,") or value in [f"#{anchor}" for anchor in ids]
    assert not [style for style in reader.values("style") if re.search(r"url\((?!#)", style)]
    assert len(reader.values("alt")) == len(reader.values("src")) == 4 + 2


def test_equal_runs_give_equal_bytes_in_any_folder(run: ReportInputs, page: Path, tmp_path: Path) -> None:
    write_report(run, tmp_path / "b.html", PARAMS)
    assert (tmp_path / "b.html").read_bytes() == page.read_bytes()


@pytest.mark.parametrize(("total", "count"), [(0, 4), (3, 24), (10, 9), (100, 24)])
def test_examples_are_shared_out_without_repeats(total: int, count: int) -> None:
    groups = choose_ranks(total, count)
    ranks = [rank for group in groups.values() for rank in group]
    assert len(ranks) == len(set(ranks)) == min(total, count)
    assert all(0 <= rank < total for rank in ranks)
    if total == 100:
        assert (groups["best"], groups["worst"]) == ([0, 1, 2, 3, 4, 5], [94, 95, 96, 97, 98, 99])
        assert 50 in groups["median"]


# --- files that do not fit -----------------------------------------------------------------------------


def test_an_image_replaced_since_it_was_listed_is_not_shown(run: ReportInputs, tmp_path: Path) -> None:
    """Its caption would stand next to another picture."""
    Image.new("RGB", (43, 30)).save(tmp_path / "image_3.png")
    refusal(read_page, run, match=r"image_3\.png has changed")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data/predictions/epoch_002_test.jsonl", '{"image_id": "image_2", "caption": "x"}', "image_3"),
        ("data/predictions/epoch_002_test.jsonl", None, "does not exist"),
        ("plots/epochs.csv", None, "No such file"),
        ("data/regions/regions.jsonl", '{"image_id": "image_2", "box": [0, 0, 1, 1]}', "'crop'"),
        ("metrics/evaluate.json", "[]", "TypeError"),
        ("metrics/regions.json", "1", "AttributeError"),
        ("plots/epochs.csv", "epoch,dev_loss\n1,2\n", "dev_bleu_1"),
        ("plots/training.csv", "step,epoch,loss,gradient_norm\n1,1,<<<<<<<,1\n", "<<<<<<<"),
    ],
)
def test_a_file_that_does_not_fit_the_run_is_named(
    run: ReportInputs, tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_text(content)
    refusal(read_page, run, match=rf"(?s){re.escape(name)}.*{re.escape(message)}.*dvc repro")


# --- text from outside ---------------------------------------------------------------------------------


def make_hostile(run: ReportInputs) -> None:
    """Put markup into every text of the run, ids too."""

    def rewrite(path: Path, **texts: object) -> None:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        rows = [{**row, **texts, "image_id": row["image_id"] + HOSTILE} for row in rows]
        path.write_text("\n".join(map(json.dumps, rows)))

    rewrite(run.images)
    rewrite(run.captions, captions=[HOSTILE, "a dog"])
    item = dict.fromkeys(("shape", "color", "size"), HOSTILE)
    answers = run.regions / "regions.jsonl"
    rewrite(answers, request=HOSTILE, region=HOSTILE, caption=HOSTILE, object=item, correct={HOSTILE: True})
    rewrite(run.predictions / "epoch_002_test.jsonl", caption=f"{HOSTILE} a lone \ud800 surrogate")
    evaluation = json.loads(run.evaluation.read_text())
    colors = {HOSTILE: evaluation["colors"]["model"]}
    texts = {"constant_caption": HOSTILE, "training": HOSTILE, "colors": colors}
    write_json(run.evaluation, {**evaluation, **texts})


def test_text_from_outside_is_escaped(run: ReportInputs) -> None:
    make_hostile(run)
    reader = read_page(run)
    assert not {"script", "link", "iframe", "object"} & reader.tags
    assert not [name for _, name, _ in reader.attributes if name.startswith("on")]
    assert all(value.startswith("data:") for value in reader.values("src"))
    # Captions, references and ids; the region's id, answer and object; the texts of evaluate.json.
    assert reader.text.count("<script>alert(1)</script>") >= 3 * 4 + 6 + 3


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True), (320, False)])
def test_a_browser_shows_the_page_from_disk(page: Path, browser: Chromium, width: int, dark: bool) -> None:
    browser.open(page.as_uri(), width, dark=dark)
    assert browser.text("h1") == "Captioning report"
    assert browser.fetched() == [page.as_uri()]
    assert browser.complaints() == []
    assert not browser.is_too_wide()
    browser.run("for (const image of document.images) image.loading = 'eager'")
    browser.wait(lambda: browser.run("return [...document.images].every((image) => image.naturalWidth > 0)"))
    red, *_ = re.findall(r"\d+", browser.run("return getComputedStyle(document.body).backgroundColor"))
    assert (int(red) < 128) == dark


def height(browser: Chromium) -> int:
    return int(browser.run("return document.documentElement.scrollHeight"))


def cut_tables(browser: Chromium) -> int:
    wider = "(table) => table.scrollWidth > table.clientWidth + 1"
    return int(browser.run(f"return [...document.querySelectorAll('.scroll')].filter({wider}).length"))


def test_on_a_phone_the_page_has_ten_screens_and_no_column_is_cut(browser: Chromium, tmp_path: Path) -> None:
    """What is long is folded there; a wide window shows all of it."""
    run = make_run(tmp_path, splits=("train", "dev", *("test",) * 30))
    write_report(run, tmp_path / "index.html", ReportParams(examples=24, region_images=2))
    address = (tmp_path / "index.html").as_uri()
    browser.open(address, 390, 844)
    folded = height(browser)
    assert folded <= 10 * 844
    unfold = "for (const folded of document.querySelectorAll('details')) folded.open = true"
    browser.run(unfold)
    assert height(browser) > 2 * folded
    assert cut_tables(browser) == 0
    browser.open(address, 1280, 800)
    assert cut_tables(browser) == 0
    whole = height(browser)
    browser.run(unfold)
    assert height(browser) == whole
