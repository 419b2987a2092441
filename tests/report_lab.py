"""A made-up run for the report to show, and its page as text."""

from html.parser import HTMLParser
from pathlib import Path

from pipeline.params.schema import ReportParams
from pipeline.report.report import ReportInputs, write_report
from tests.import_closure import ROOT

SCORES = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "cider", "rouge_l")
PARAMS = ReportParams(examples=4, region_images=1)
SAMPLE_PARAMS = ROOT / "profiles" / "sample.yaml"


def score_row(value: float) -> dict[str, float]:
    return dict.fromkeys(SCORES, value)


def color_row(precision: float) -> dict[str, float]:
    return {"precision": precision, "recall": 40.5, "said": 3, "named": 4}


def page_text(run: ReportInputs, output: Path, params: ReportParams = PARAMS) -> str:
    write_report(run, output, params)
    return output.read_text(encoding="utf-8")


class PageReader(HTMLParser):
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
