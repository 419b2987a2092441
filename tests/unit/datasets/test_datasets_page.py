"""docs/datasets.md: each of its examples is a dataset that `prepare` takes, and says what the page says.

Run: .venv/bin/python -m pytest tests/unit/datasets/test_datasets_page.py
"""

import logging
import re
from collections.abc import Iterator
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
    def source(self) -> str:
        found = SOURCE.search(self.text)
        return found[1] if found else ""

    @property
    def files(self) -> dict[str, str]:
        """What the blocks that carry a file's name hold."""
        named = [(block.info.partition(" ")[2], block.content) for block in self.blocks]
        return {name: content for name, content in named if name}

    def build(self, root: Path) -> None:
        """Write the files that the section lists: images, and those that it shows."""
        listing = next(block.content for block in self.blocks if block.info == "text")
        files = self.files
        for number, line in enumerate(listing.split("\n")[:-1]):
            path = root / line
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix in (".jpg", ".png"):
                Image.new("RGB", (32, 24), (number * 30, 90, 120)).save(path)
            else:
                path.write_text(files.pop(line), encoding="utf-8")
        assert not files, f"shown and not listed: {list(files)}"


def examples() -> Iterator[Example]:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("## ")]
    blocks = [(int(block.place.rpartition(":")[2]), block) for block in blocks_of(PAGE)]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        inside = [block for line, block in blocks if start < line <= end]
        yield Example(lines[start].removeprefix("## "), "\n".join(lines[start:end]), inside)


IN_FOLDERS = [one for one in examples() if one.source and one.source != "hub"]


def test_every_format_of_a_folder_has_an_example() -> None:
    assert {one.source for one in IN_FOLDERS} == {"csv", "jsonl", "karpathy", "flickr8k"}
    assert len(IN_FOLDERS) == 7


@pytest.mark.parametrize("example", IN_FOLDERS, ids=lambda one: one.title)
def test_an_example_is_a_dataset(example: Example, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    example.build(tmp_path / "photos")
    data = tmp_path / "data"
    with caplog.at_level(logging.INFO, "pipeline"):
        counts = prepare(
            data_params(example.source, tmp_path / "photos"),
            data / "images.jsonl",
            data / "captions.jsonl",
            data / "images",
            workers=1,
        )
    said = " ".join(example.text.split())
    assert f"`{counts}`" in said
    for layout in re.findall(r"`(Flickr8k in .+?|[^`]+ has no splits.+?)`", said):
        assert layout in caplog.text


def test_the_example_of_pins_is_a_file_of_pins(tmp_path: Path) -> None:
    (example,) = [one for one in examples() if one.source == "hub"]
    (tmp_path / "pins.json").write_text(example.files["pins.json"], encoding="utf-8")
    assert read_pins(tmp_path / "pins.json").repository == "someone/captioned-photos"
