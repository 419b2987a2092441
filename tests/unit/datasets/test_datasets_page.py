"""docs/datasets.md: each of its examples is a dataset that `prepare` takes, and says what the page says.

Run: .venv/bin/python -m pytest tests/unit/datasets/test_datasets_page.py
"""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from pipeline.datasets.pins import read_pins
from pipeline.params.schema import Params
from tests.dataset_makers import data_params
from tests.import_closure import ROOT
from tests.unit.project import Project

SOURCE = re.compile(r"-S data\.source=(\w+)")
# Of a fenced block: its language, the name of its file, its content.
BLOCK = re.compile(r"^```(\w+) ?(.*)\n([^`]*)```$", re.MULTILINE)
SECTIONS = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8").split("\n## ")
EXAMPLES = [(match[1], text) for text in SECTIONS if (match := SOURCE.search(text))]


def test_every_format_has_an_example() -> None:
    assert {source for source, _ in EXAMPLES} == {"csv", "jsonl", "karpathy", "flickr8k", "hub"}


@pytest.mark.parametrize(("source", "text"), EXAMPLES, ids=lambda value: value.partition("\n")[0])
def test_an_example_is_read(
    source: str, text: str, tmp_path: Path, tiny_params: Params, log: pytest.LogCaptureFixture
) -> None:
    files = {name: content for _, name, content in BLOCK.findall(text) if name}
    listing = [content.split() for language, _, content in BLOCK.findall(text) if language == "text"]
    for number, line in enumerate(listing[0] if listing else list(files)):
        path = tmp_path / line
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in (".jpg", ".png"):
            Image.new("RGB", (32, 24), (number * 30, 90, 120)).save(path)
        else:
            path.write_text(files.pop(line), encoding="utf-8")
    assert not files
    if source == "hub":
        assert read_pins(tmp_path / "pins.json").repository == "someone/captioned-photos"
        return
    counts = Project(tmp_path, replace(tiny_params, data=data_params(source, tmp_path))).prepare()
    words = " ".join(text.split())
    assert f"`{counts}`" in words
    for layout in re.findall(r"`(Flickr8k in .+?|[^`]+ has no splits.+?)`", words):
        assert layout in log.text
