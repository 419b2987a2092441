"""Pages: commands exist, links and anchors lead somewhere, words are plain; new pages are found.

Run: .venv/bin/python -m pytest tests/contract/test_pages.py
"""

import re
from pathlib import Path

import pytest

from tests.command_lines import check
from tests.contract.test_flow import STAGES, paths, read_yaml
from tests.import_closure import ROOT
from tests.pages import (
    anchors_of,
    blocks_of,
    code_spans_of,
    commands_in,
    links_of,
    pages,
    relative,
    table_rows,
)

COMMANDS = {block.place: commands_in(block) for page in pages() for block in blocks_of(page)}
# How a path of the repository in code font is recognized.
_PATH = re.compile(r"(?:\.ci|benchmarks|docs|notebooks|pipeline|profiles|stages|tests|vlm)/[\w./-]*\w")
# Words over which a reader stumbles.
UNPLAIN = "beside|anew|is none|to be had|such as these are|of its own|of their own|whoever|in the making"


@pytest.mark.parametrize("place", [place for place, commands in COMMANDS.items() if commands])
def test_every_command_in_a_console_exists(place: str) -> None:
    for words in COMMANDS[place]:
        check(words)


def test_pages_code_and_messages_are_in_plain_words() -> None:
    """Blocks of code in pages are left out; a line may end between two words."""
    folders = ("pipeline", "stages", "vlm", "benchmarks", "tests", "docs", "profiles", "notebooks")
    suffixes = {".py", ".md", ".yaml", ".j2", ".html", ".js", ".ipynb"}
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in suffixes]
    # The words of requests are data; the list above names the words that it forbids.
    named = {Path(__file__), ROOT / "pipeline/regions/words.py"}
    for path in [ROOT / "README.md", ROOT / "params.yaml", ROOT / "dvc.yaml", *files]:
        text = path.read_text(encoding="utf-8").replace("#", " ")
        if path.suffix == ".md":
            text = re.sub(r"```.*?```", "", text, flags=re.S)
        words = re.findall(
            rf"\b(?:{UNPLAIN})\b", " ".join(text.split()), flags=re.I if path.suffix == ".md" else 0
        )
        assert path in named or words == [], path


@pytest.mark.parametrize("page", pages(), ids=relative)
def test_every_link_anchor_and_path_leads_somewhere(page: Path) -> None:
    for link in links_of(page):
        target, _, anchor = link.partition("#")
        if "://" not in link:
            file = (page.parent / target).resolve() if target else page
            assert file.exists(), link
            assert not anchor or anchor in anchors_of(file), link
    named = [span for span in code_spans_of(page) if _PATH.fullmatch(span) and "NAME" not in span]
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_table_of_what_re_runs_is_that_of_dvc_yaml() -> None:
    """For each section of params.yaml and each room: the stages that depend on it, or on a part of it."""
    listed = set()
    for names, runs in table_rows(ROOT / "docs" / "architecture.md", "| what changes | runs |"):
        stages = re.findall(r"\w+", re.sub(r"\(.*?\)", "", runs))  # brackets explain
        for name in re.findall("`(.+?)`", names):
            kind, mark = ("deps", "/") if name.startswith("pipeline/") else ("params", ".")
            depending = [
                stage
                for stage in STAGES
                if any(f"{part}{mark}".startswith(f"{name}{mark}") for part in paths(stage, kind))
            ]
            assert stages == (depending or ["nothing"]), name
            listed.add(name)
    rooms = {
        path for path in (ROOT / "pipeline").iterdir() if path.name[0] != "_" and path.suffix in ("", ".py")
    }
    assert listed == set(read_yaml(ROOT / "params.yaml")) | {relative(path) for path in rooms}
