"""README, docs and notebooks say what is true: commands can be given, links lead somewhere, names exist.

Pages are found by themselves, so a new one is checked from its first day.
"""

import ast
import importlib
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any, get_args, get_type_hints

import click
import pytest

from pipeline.errors import PipelineError
from pipeline.params.schema import DataParams
from pipeline.pretrained.wheels import WHEEL_MODELS
from tests.command_lines import OWN_PACKAGES, PROGRAMS, VLM, check, check_override
from tests.contract.test_flow import STAGES, read_yaml
from tests.import_closure import ROOT
from tests.pages import (
    Block,
    all_blocks,
    anchors_of,
    blocks_of,
    code_of,
    code_spans_of,
    commands_in,
    links_of,
    pages,
    relative,
    simple_commands,
)

BLOCKS = all_blocks()
PAGES = pages()
WITH_COMMANDS = [block for block in BLOCKS if commands_in(block)]
PYTHON = [block for block in BLOCKS if block.language == "python"]
README = ROOT / "README.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
# Folders and files of the repository by which a path in code font is recognised.
_PATH = re.compile(r"(?:\.ci|benchmarks|docs|notebooks|pipeline|profiles|stages|tests|vlm)/[\w./-]*\w")


def place(block: Block) -> str:
    return block.place


def flat(section: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys, of sections too, and their values."""
    keys: dict[str, Any] = {}
    for name, value in section.items():
        keys[prefix + name] = value
        keys |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {}
    return keys


SAMPLE = flat(read_yaml(ROOT / "params.yaml"))
SECTIONS = [key for key in SAMPLE if "." not in key]


@pytest.mark.parametrize("block", WITH_COMMANDS, ids=place)
def test_every_command_can_be_given(block: Block) -> None:
    for words in commands_in(block):
        check(words)


def test_there_are_commands_to_check_on_the_pages_that_have_them() -> None:
    found = {block.place.split(":")[0] for block in WITH_COMMANDS}
    assert {
        "README.md",
        "CONTRIBUTING.md",
        "docs/commands.md",
        "docs/flickr8k.md",
        "docs/datasets.md",
    } <= found
    assert sum(len(commands_in(block)) for block in WITH_COMMANDS) > 60


@pytest.mark.parametrize(
    "wrong",
    [
        "vlm captions photo.jpg",
        "vlm caption photo.jpg --asks top",
        "vlm export --format llav out",
        "cp profiles/flickr9k.yaml params.yaml",
        "dvc reproduce",
        "dvc repro trains",
        "dvc exp run -S train.epoch=3",
        "dvc exp run --queue -S train.epochs=3,none",
        "dvc metrics diff --everything",
        "make everything",
        "python -m stages.trains",
        "python -m stages.train --param x",
        "pip install -r requirements.txt",
        "pip install '.[web]'",
        "git comit",
        "hf auth log-in",
        "hf download --revisions x y",
        "torchrun --nproc 2 -m stages.trains",
        "unheard-of",
    ],
)
def test_a_command_that_cannot_be_given_is_noticed(wrong: str) -> None:
    """Else the test above could not fail."""
    (words,) = commands_in(Block("a test", "bash", wrong))
    with pytest.raises((AssertionError, click.UsageError, PipelineError)):
        check(words)


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_command_and_parameter_in_code_font_is_known(page: Path) -> None:
    for span in code_spans_of(page):
        program, *rest = span.split() or [""]
        if program in PROGRAMS and rest and "..." not in span and "COMMAND" not in span:
            for words in simple_commands(span):
                check(words, complete=False)
        if program == "-S":
            check_override(shlex.split(span)[1])
        key = re.match(rf"({'|'.join(SECTIONS)})\.[a-z_.]+(?=[=:]|$)", span)
        if key and not key[0].endswith((".csv", ".h5", ".html", ".json", ".jsonl", ".md", ".py")):
            assert key[0] in SAMPLE, f"{relative(page)}: {span}"


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_path_in_code_font_exists(page: Path) -> None:
    for span in code_spans_of(page):
        if _PATH.fullmatch(span) and not re.search(r"NAME|EXTRA|\.\.\.", span):
            assert (ROOT / span).exists(), f"{relative(page)}: {span}"


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links_of(page):
        target, _, anchor = link.partition("#")
        if "://" in link:
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{relative(page)}: {link}"
        if anchor:
            assert anchor in anchors_of(file), f"{relative(page)}: {link}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, waiting = set(), [README]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        targets = [
            (page.parent / link.split("#")[0]).resolve() for link in links_of(page) if "://" not in link
        ]
        waiting += [
            file for file in targets if file.suffix == ".md" and file.is_file() and file not in reached
        ]
    assert set((ROOT / "docs").rglob("*.md")) <= reached


@pytest.mark.parametrize("block", PYTHON, ids=place)
def test_python_on_pages_is_python_and_imports_what_there_is(block: Block) -> None:
    for node in ast.walk(ast.parse(code_of(block))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in OWN_PACKAGES:
            module = importlib.import_module(node.module or "")
            for alias in node.names:
                assert hasattr(module, alias.name), f"{node.module} has no {alias.name}"


# --- tables and outputs -----------------------------------------------------------------------------


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
    assert listed == set(SECTIONS) | {relative(path) for path in rooms}


def test_the_readme_names_the_parameters_that_re_run_each_stage() -> None:
    flow = read_yaml(ROOT / "dvc.yaml")["stages"]
    rows = cells(README, "| stage | does |")
    assert [row[0].strip("`") for row in rows] == list(STAGES)
    for stage, _, change in rows[:-1]:
        assert set(re.findall(r"`([\w.]+)`", change)) == set(flow[stage.strip("`")]["params"])
    assert rows[-1][2] == "any result"


def test_the_readme_lists_every_source_of_data() -> None:
    listed = [row[0].strip("`") for row in cells(README, "| `data.source` |")]
    assert sorted(listed) == sorted(get_args(get_type_hints(DataParams)["source"]))


def test_the_readme_and_the_results_show_the_same_run() -> None:
    shown = {b.content for b in blocks_of(README) if b.content.startswith("Best epoch")}
    assert len(shown) == 1
    assert shown <= {b.content for b in blocks_of(ROOT / "docs" / "results.md")}


def test_the_commands_page_lists_every_command() -> None:
    listed = [row[0].strip("`") for row in cells(ROOT / "docs" / "commands.md", "| command | does |")]
    assert sorted(listed) == sorted(f"vlm {words}" for words in VLM if words and " " not in words)


def test_the_page_of_the_app_has_the_defaults_of_its_options() -> None:
    defaults = {name: option.default for option in VLM["app"].params for name in option.opts}
    text = (ROOT / "docs" / "app.md").read_text(encoding="utf-8")
    shown = re.findall(r"`(--[\w-]+) ([\w.]+)`", text.split("## Options")[1].split("## ")[0])
    assert len(shown) >= 4
    for option, value in shown:
        default = defaults[option]
        known = {"PATH", f"{default:g}" if isinstance(default, float) else str(default)}
        assert value in known, option


def test_the_walk_through_names_every_profile_of_its_dataset() -> None:
    text = (ROOT / "docs" / "flickr8k.md").read_text(encoding="utf-8")
    for profile in (ROOT / "profiles").glob("flickr8k*.yaml"):
        assert f"`{profile.stem}`" in text, profile.stem


def test_the_citation_and_the_licence_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = read_yaml(ROOT / "CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")[:200]


def test_the_page_of_licences_has_every_model_and_source_of_data() -> None:
    text = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
    for model in WHEEL_MODELS:
        assert f"`wheel:{model}`" in text
    for word in ("CLIP ViT-B/32", "ViT-L/14", "Llama-3.2-1B", "Flickr8k", "UCM-Captions", "generated scenes"):
        assert word in text


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_nothing_is_left_to_be_filled_in(page: Path) -> None:
    found = re.findall(r"\b(?:TODO|TBD|FIXME|XXX|[A-Z]+_TABLES?)\b", page.read_text(encoding="utf-8"))
    assert found == []
