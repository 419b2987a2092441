"""Commands: each stage explains itself at once, and what the README shows exists."""

import re
import resource
import subprocess
import sys

import click
import pytest

from pipeline.errors import PipelineError
from pipeline.regions.regions import REGIONS, regions_from_request
from tests.command_lines import VLM, check
from tests.contract.test_flow import STAGES
from tests.import_closure import ROOT
from tests.pages import blocks_of, commands_in, simple_commands

# The stages, and the commands beside them.
HELPED = (*STAGES, "summary")


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("stage", HELPED)
def test_help_says_what_a_stage_does_with_an_example(stage: str) -> None:
    result = run("-m", f"stages.{stage}", "--help")
    assert result.returncode == 0
    assert f"Example: python -m stages.{stage}" in result.stdout
    if stage in STAGES:
        assert all(word in result.stdout for word in ("Reads", "Writes", "Params"))


@pytest.mark.parametrize("stage", HELPED)
def test_help_imports_nothing_heavy(stage: str) -> None:
    code = (
        f"import sys, stages.{stage} as s\n"
        "try: s.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'h5py', 'numpy', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    result = run("-c", code)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("command", VLM)
def test_help_of_vlm_has_an_example_and_imports_nothing_heavy(command: str) -> None:
    code = (
        "import sys; from vlm.main import main\n"
        f"try: main({command.split()} + ['--help'], prog_name='vlm')\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'h5py', 'numpy', 'matplotlib', 'PIL'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    result = run("-c", code)
    assert result.returncode == 0, result.stderr
    assert f"Example: vlm {command}" in result.stdout


def test_the_commands_page_says_what_the_web_page_does_by_default() -> None:
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    options = {option.name: option.default for option in VLM["app"].params}
    assert options["open_browser"] is False
    assert "with `--open` opens it" in page
    assert f"http://{options['host']}:{options['port']}" in page


def test_help_of_vlm_takes_less_than_half_a_second() -> None:
    """Of processor time, which other work on the machine does not lengthen; the best of three."""

    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert run("-m", "vlm", "--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(3)) < 0.5


def examples_in(text: str) -> list[str]:
    """The commands that a help gives as examples."""
    return re.findall(r"^ *Example[^:]*: (.*)$", text, re.M)


@pytest.mark.parametrize("command", VLM)
def test_every_example_in_a_help_can_be_given(command: str) -> None:
    examples = examples_in(VLM[command].help or "")
    assert examples
    for example in examples:
        for words in simple_commands(example):
            check(words)


def test_commands_md_shows_every_command() -> None:
    blocks = [b for b in blocks_of(ROOT / "docs" / "commands.md") if b.language == "console"]
    shown = [" ".join(words) for block in blocks for words in commands_in(block)]
    for words, command in VLM.items():
        assert isinstance(command, click.Group) or any(s.startswith(f"vlm {words}") for s in shown), words


def table_rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the table below a heading row, such as `| request | regions |`."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    below = text.split(f"{heading}\n", 1)[1].split("\n\n", 1)[0]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in below.splitlines()[1:]]


def test_requests_in_regions_md_mean_what_it_says() -> None:
    rows = table_rows("regions.md", "| request | regions |")
    assert len(rows) > 15
    for request, regions in rows:
        assert [str(region) for region in regions_from_request(request)] == re.findall("`(.+?)`", regions)


def test_requests_that_regions_md_says_are_refused_are() -> None:
    for request, _ in table_rows("regions.md", "| request | why |"):
        with pytest.raises(PipelineError, match=r"full, top-left|is not left, top, right, bottom"):
            regions_from_request(request)


def test_regions_md_lists_all_regions() -> None:
    rows = table_rows("regions.md", "| name | part of the image |")
    listed = [name for names, _ in rows for name in re.findall("`(.+?)`", names)]
    assert sorted(listed) == sorted(REGIONS)


def test_ci_runs_the_readmes_test_command() -> None:
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "make test" in (ROOT / "README.md").read_text(encoding="utf-8")
