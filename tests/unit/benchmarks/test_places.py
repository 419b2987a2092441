"""Crops against questions: a line for each corner while it works, then the table; it stands in the list.

Run: .venv/bin/python -m pytest tests/unit/benchmarks/test_places.py
"""

from click.testing import CliRunner

from benchmarks.places import main
from tests.import_closure import ROOT
from tests.unit.project import Project


def test_it_says_what_it_works_on_and_prints_a_row_for_each_way(project: Project) -> None:
    result = CliRunner().invoke(main, [str(project.data)], catch_exceptions=False)
    lines = [line for line in result.stderr.splitlines() if line.endswith(" images ...")]
    ways = ("caption of the crop", "answer to a question")
    corners = ("top-left", "top-right", "bottom-left", "bottom-right")
    assert [line.split(":")[0] for line in lines] == [f"{way}, {name}" for way in ways for name in corners]
    assert [line.split(" | ")[0].strip("| ") for line in result.stdout.strip().splitlines()[2:]] == list(ways)


def test_contributing_md_lists_all_benchmarks() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    files = [path for path in (ROOT / "benchmarks").glob("*.py") if "def main" in path.read_text()]
    assert len(files) > 5
    assert [path.stem for path in files if f"`{path.stem}`" not in page] == []
