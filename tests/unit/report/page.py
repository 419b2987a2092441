"""The report's page as its tests read it."""

from html.parser import HTMLParser
from pathlib import Path

from pipeline.params.schema import ReportParams
from pipeline.report.report import ReportInputs, write_report

PARAMS = ReportParams(examples=4, region_images=1)


def page_text(run: ReportInputs, output: Path) -> str:
    write_report(run, output, PARAMS)
    return output.read_text(encoding="utf-8")


class PageReader(HTMLParser):
    """Checks that tags balance; keeps texts, tags, ids and attributes."""

    VOID = frozenset(["meta", "img", "br", "link", "input", "hr"])

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == []
        self.ids = [value for _, name, value in self.attributes if name == "id"]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
