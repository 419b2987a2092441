"""docs/datasets.md: each of its examples is a dataset that `prepare` takes, and says what the page says.

Run: .venv/bin/python -m pytest tests/unit/datasets/test_datasets_page.py
"""

import logging
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from pipeline.datasets.pins import read_pins
from pipeline.datasets.prepare import prepare
from tests.dataset_makers import data_params
from tests.import_closure import ROOT
from tests.pages import Block, blocks_of

PAGE = ROOT / "docs" / "datasets.md"
SOURCE = re.compile(r"-S data\.source=(\w+)")


@dataclass(frozen=True)
class Example:
    """A section of the page: its title, its words, its blocks."""

    title: str
    text: str
    blocks: list[Block]

    @property
    def files(self) -> dict[str, str]:
        """The contents of the blocks that have a file's name."""
        named = [(block.info.partition(" ")[2], block.content) for block in self.blocks]
        return {name: content for name, content in named if name}

    def build(self, root: Path) -> None:
        """Write the files that the section lists: images, and files whose content it shows."""
        listing = next(block.content for block in self.blocks if block.info == "text").split()
        assert self.files.keys() <= set(listing)
        for number, line in enumerate(listing):
            path = root / line
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix in (".jpg", ".png"):
                Image.new("RGB", (32, 24), (number * 30, 90, 120)).save(path)
            else:
                path.write_text(self.files[line], encoding="utf-8")


def examples() -> dict[str, list[Example]]:
    """The sections of the page by their `data.source`."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("## ")]
    sections: dict[str, list[Example]] = {}
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        text = "\n".join(lines[start:end])
        blocks = [b for b in blocks_of(PAGE) if start < int(b.place.rpartition(":")[2]) <= end]
        if source := SOURCE.search(text):
            sections.setdefault(source[1], []).append(Example(lines[start], text, blocks))
    return sections


EXAMPLES = examples()
(PINS,) = EXAMPLES.pop("hub")
FOLDERS = [(source, example) for source, section in EXAMPLES.items() for example in section]


def test_every_format_of_a_folder_has_an_example() -> None:
    assert EXAMPLES.keys() == {"csv", "jsonl", "karpathy", "flickr8k"}
    assert len(FOLDERS) == 7


@pytest.mark.parametrize(("source", "example"), FOLDERS, ids=lambda value: getattr(value, "title", ""))
def test_an_example_is_a_dataset(
    source: str, example: Example, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    example.build(tmp_path / "photos")
    data, params = tmp_path / "data", data_params(source, tmp_path / "photos")
    with caplog.at_level(logging.INFO, "pipeline"):
        counts = prepare(params, data / "images.jsonl", data / "captions.jsonl", data / "images", workers=1)
    text = " ".join(example.text.split())
    assert f"`{counts}`" in text
    for layout in re.findall(r"`(Flickr8k in .+?|[^`]+ has no splits.+?)`", text):
        assert layout in caplog.text


def test_the_example_of_pins_is_a_file_of_pins(tmp_path: Path) -> None:
    (tmp_path / "pins.json").write_text(PINS.files["pins.json"], encoding="utf-8")
    assert read_pins(tmp_path / "pins.json").repository == "someone/captioned-photos"
