"""Commands: each stage explains itself at once, and what the README shows exists."""

import re
import resource
import shlex
import subprocess
import sys

import click
import pytest

from pipeline.errors import PipelineError
from pipeline.regions import NAMES, parse_all
from tests.contract.test_flow import STAGES
from tests.import_closure import ROOT
from vlm.main import main as vlm


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("stage", [*STAGES, "summary"])
def test_help_says_what_a_stage_does_with_an_example(stage: str) -> None:
    result = run("-m", f"stages.{stage}", "--help")
    assert result.returncode == 0
    assert f"Example: python -m stages.{stage}" in result.stdout
    if stage in STAGES:
        assert all(word in result.stdout for word in ("Reads", "Writes", "Params"))


@pytest.mark.parametrize("stage", [*STAGES, "summary"])
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


def commands_of(group: click.Group, words: str = "") -> dict[str, click.Command]:
    """All commands of a group and of its groups, by the words that call them."""
    found: dict[str, click.Command] = {words.strip(): group}
    for name, command in group.commands.items():
        below = f"{words} {name}"
        found |= commands_of(command, below) if isinstance(command, click.Group) else {below.strip(): command}
    return found


COMMANDS = commands_of(vlm)


@pytest.mark.parametrize("command", COMMANDS)
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


def test_the_commands_page_shows_the_profiles_as_the_command_lists_them() -> None:
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    shown = page.split("$ vlm profile\n")[1].split("\n\n")[0]
    assert f"{shown}\n" == run("-m", "vlm", "profile").stdout


def test_the_commands_page_says_what_the_web_page_does_by_default() -> None:
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    options = {option.name: option.default for option in COMMANDS["app"].params}
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


def split_call(call: str) -> tuple[click.Command, list[str]]:
    """The command that `vlm ...` calls, and its arguments; AssertionError where there is no such command."""
    words = shlex.split(call)[1:]
    count = max(n for n in range(len(words) + 1) if " ".join(words[:n]) in COMMANDS)
    command = COMMANDS[" ".join(words[:count])]
    assert not isinstance(command, click.Group) or count == len(words) or words[count].startswith("-"), call
    return command, words[count:]


def calls_in(text: str) -> list[str]:
    """Lines of consoles (`$ vlm ...`) and of helps (`Example: vlm ...`)."""
    return re.findall(r"^ *(?:\$|Example[^:]*:) (vlm .*)$", text, re.M)


def test_every_example_in_helps_and_pages_is_understood() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    texts = [page.read_text(encoding="utf-8") for page in pages]
    texts += [command.help or "" for command in COMMANDS.values()]
    calls = [call for text in texts for call in calls_in(text)]
    assert len(calls) > 20
    for call in calls:
        command, arguments = split_call(call)
        # The parser alone: whether the files are there is another question.
        parser = command.make_parser(click.Context(command))
        values, rest, _ = parser.parse_args(list(arguments))
        assert not rest or isinstance(command, click.Group), call
        for parameter in command.params:
            assert not parameter.required or values.get(parameter.name or ""), (call, parameter.name)


def test_every_command_that_pages_name_exists_with_its_options() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for call in re.findall(r"`(vlm [^`]+)`", page.read_text(encoding="utf-8")):
            if "COMMAND" in call:
                continue
            command, arguments = split_call(call)
            options = {name for parameter in command.params for name in parameter.opts}
            for word in arguments:
                assert not word.startswith("--") or word in {*options, "--help"}, (page.name, call)


def test_commands_md_shows_every_command() -> None:
    shown = calls_in((ROOT / "docs" / "commands.md").read_text(encoding="utf-8"))
    called = {id(split_call(call)[0]) for call in shown}
    for words, command in COMMANDS.items():
        assert isinstance(command, click.Group) or id(command) in called, words


def table_rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the table below a heading row, such as `| request | regions |`."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    below = text.split(f"{heading}\n", 1)[1].split("\n\n", 1)[0]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in below.splitlines()[1:]]


def test_requests_in_regions_md_mean_what_it_says() -> None:
    rows = table_rows("regions.md", "| request | regions |")
    assert len(rows) > 15
    for request, regions in rows:
        assert [str(region) for region in parse_all(request)] == re.findall("`(.+?)`", regions)


def test_requests_that_regions_md_says_are_refused_are() -> None:
    for request, _ in table_rows("regions.md", "| request | why |"):
        with pytest.raises(PipelineError, match=r"full, top-left|is not left, top, right, bottom"):
            parse_all(request)


def test_regions_md_lists_all_regions() -> None:
    rows = table_rows("regions.md", "| name | part of the image |")
    listed = [name for names, _ in rows for name in re.findall("`(.+?)`", names)]
    assert sorted(listed) == sorted(NAMES)


def test_every_file_and_make_target_that_the_readme_names_exists() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^\$ make (\w+)", readme, re.M):
        assert f"\n{target}:" in makefile, target
    for link in re.findall(r"\]\(([^)#:]+)\)", readme):
        assert (ROOT / link).exists(), link
    for module in re.findall(r"python -m (stages\.\w+)", readme):
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), module


def test_every_override_in_readme_and_docs_names_a_parameter() -> None:
    params = (ROOT / "params.yaml").read_text(encoding="utf-8")
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for key in re.findall(r"-S '?([\w.]+)=", page.read_text(encoding="utf-8")):
            section, *rest = key.split(".")
            assert re.search(rf"^{section}:", params, re.M), (page.name, key)
            assert re.search(rf"\b{rest[-1]}:", params), (page.name, key)


def test_ci_runs_the_readmes_test_command() -> None:
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "make test" in (ROOT / "README.md").read_text(encoding="utf-8")
