"""Pages: commands can be given, links and anchors lead somewhere, paths exist; new pages are found."""

import re
from pathlib import Path
from typing import Any

import click
import pytest

from pipeline.errors import PipelineError
from tests.command_lines import check
from tests.contract.test_flow import read_yaml
from tests.import_closure import ROOT
from tests.pages import (
    anchors_of,
    blocks_of,
    code_spans_of,
    commands_in,
    links_of,
    pages,
    relative,
    simple_commands,
)

ARCHITECTURE = ROOT / "docs" / "architecture.md"
COMMANDS = {block.place: commands_in(block) for page in pages() for block in blocks_of(page)}
# How a path of the repository in code font is recognised.
_PATH = re.compile(r"(?:\.ci|benchmarks|docs|notebooks|pipeline|profiles|stages|tests|vlm)/[\w./-]*\w")
# Words that a reader stumbles over, and what says the same plainly.
UNPLAIN = {
    "beside": "next to, in addition to",
    "anew": "again",
    "is none": "does not exist, is not a",
    "to be had": "is available",
    "such as these are": "like these",
    "of its own": "its own",
    "whoever": "anyone who",
    "in the making": "being built",
}
WRONG = """
vlm captions photo.jpg
vlm caption photo.jpg --asks top
vlm export --format llav out
cp profiles/flickr9k.yaml params.yaml
dvc reproduce
dvc repro trains
dvc exp run -S train.epoch=3
dvc exp run --queue -S train.epochs=3,none
dvc metrics diff --everything
make everything
python -m stages.trains
python -m stages.train --param x
python -m benchmarks.calculate
pip install -r requirements.txt
torchrun --nproc 2 -m stages.trains
unheard-of
"""


@pytest.mark.parametrize("place", [place for place, commands in COMMANDS.items() if commands])
def test_every_command_in_a_console_can_be_given(place: str) -> None:
    for words in COMMANDS[place]:
        check(words)


@pytest.mark.parametrize("wrong", WRONG.strip().splitlines())
def test_a_command_that_cannot_be_given_is_noticed(wrong: str) -> None:
    """Else the test above could not fail."""
    (words,) = simple_commands(wrong)
    with pytest.raises((AssertionError, click.UsageError, PipelineError)):
        check(words)


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=relative)
def test_pages_are_in_plain_words(page: Path) -> None:
    """Blocks of code are left out; words may be parted by the end of a line."""
    text = " ".join(re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S).lower().split())
    assert {word: plain for word, plain in UNPLAIN.items() if re.search(rf"\b{word}\b", text)} == {}


@pytest.mark.parametrize("page", pages(), ids=relative)
def test_every_path_in_code_font_exists(page: Path) -> None:
    paths = [span for span in code_spans_of(page) if _PATH.fullmatch(span) and "NAME" not in span]
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", pages(), ids=relative)
def test_every_link_and_anchor_leads_somewhere(page: Path) -> None:
    for link in links_of(page):
        target, _, anchor = link.partition("#")
        if "://" not in link:
            file = (page.parent / target).resolve() if target else page
            assert file.exists(), link
            assert not anchor or anchor in anchors_of(file), link


def cells(page: Path, heading: str) -> list[list[str]]:
    """The rows of a table, below the heading row that begins so."""
    text = page.read_text(encoding="utf-8")
    below = text[text.index(heading) :].split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in below]


def paths(entries: list[Any]) -> set[str]:
    """The paths of deps or outs; one with options is a mapping of one key."""
    return {path for entry in entries for path in ([entry] if isinstance(entry, str) else entry)}


def test_the_graph_is_that_of_dvc_yaml() -> None:
    flow = read_yaml(ROOT / "dvc.yaml")["stages"]
    drawn = re.findall(r'(\w+) -->\|"(.+)"\| (\w+)', ARCHITECTURE.read_text(encoding="utf-8"))
    assert {(giver, taker): set(files.split(", ")) for giver, files, taker in drawn} == {
        (giver, taker): {Path(file).name for file in files}
        for giver, of in flow.items()
        for taker, to in flow.items()
        if (files := paths(of["outs"]) & paths(to["deps"]))
    }


def test_the_table_of_what_re_runs_is_that_of_dvc_yaml() -> None:
    """For each section of params.yaml and each room: the stages that depend on it, or on a part of it."""
    flow = read_yaml(ROOT / "dvc.yaml")["stages"]
    listed = set()
    for names, runs in cells(ARCHITECTURE, "| what changes | runs |"):
        stages = re.findall(r"\w+", re.sub(r"\(.*?\)", "", runs))  # what stands in brackets explains
        for name in re.findall("`(.+?)`", names):
            kind, mark = ("deps", "/") if name.startswith("pipeline/") else ("params", ".")
            depending = [
                stage
                for stage, of in flow.items()
                if any(f"{part}{mark}".startswith(f"{name}{mark}") for part in paths(of[kind]))
            ]
            assert stages == (depending or ["nothing"]), name
            listed.add(name)
    rooms = {
        path for path in (ROOT / "pipeline").iterdir() if path.name[0] != "_" and path.suffix in ("", ".py")
    }
    assert listed == set(read_yaml(ROOT / "params.yaml")) | {relative(path) for path in rooms}
