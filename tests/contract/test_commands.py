"""Commands: each explains itself at once, and its examples exist.

Run: .venv/bin/python -m pytest tests/contract/test_commands.py
"""

import json
import re
from functools import partial

import click
import pytest

from pipeline.regions.regions import REGIONS, regions_from_request
from tests.command_lines import VLM, check
from tests.contract.test_flow import STAGES
from tests.import_closure import ROOT
from tests.pages import blocks_of, commands_in, simple_commands, table_rows
from tests.python_process import run_python
from tests.refusals import refusal

# The stages, `stages.summary`, and all of `vlm`: module and words that ask it for help.
HELPS = {f"python -m stages.{name}": (f"stages.{name}", "") for name in (*STAGES, "summary")} | {
    f"vlm {words}".strip(): ("vlm.main", words) for words in VLM
}


@pytest.mark.parametrize("command", HELPS)
def test_a_help_has_an_example_that_exists_and_imports_nothing_heavy(command: str) -> None:
    module, words = HELPS[command]
    code = (
        f"import sys; from {module} import main\n"
        f"try: main({words.split()} + ['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'h5py', 'numpy', 'matplotlib', 'PIL'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    printed = run_python(code).stdout
    examples = re.findall(r"^ *Example: (.*)$", printed, re.M)
    assert examples
    for example in examples:
        assert example.startswith(command)
        for simple in simple_commands(example):
            check(simple)
    if module.removeprefix("stages.") in STAGES:
        assert all(word in printed for word in ("Reads", "Writes", "Params"))


def test_commands_md_shows_every_command() -> None:
    blocks = [b for b in blocks_of(ROOT / "docs" / "commands.md") if b.language == "console"]
    lines = [" ".join(words) for block in blocks for words in commands_in(block)]
    for words, command in VLM.items():
        assert isinstance(command, click.Group) or any(s.startswith(f"vlm {words}") for s in lines), words


def test_the_dockerfile_copies_what_exists_and_serves_the_page() -> None:
    """Nothing here builds it."""
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = [name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]]
    assert [name for name in copied if not name.startswith("data/") and not (ROOT / name).exists()] == []
    assert {"pipeline", "stages", "vlm", "requirements.lock", "data/best.safetensors"} <= set(copied)
    allowed = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {f"!{name.removesuffix('*')}" for name in copied} == set(allowed) - {"*"}
    check(json.loads(lines[-1].removeprefix("CMD ")))


def test_regions_md_says_what_can_be_asked_and_what_is_refused() -> None:
    rows = partial(table_rows, ROOT / "docs" / "regions.md")
    for request, regions in rows("| request | regions |"):
        assert [str(region) for region in regions_from_request(request)] == re.findall("`(.+?)`", regions)
    for request, _ in rows("| request | why |"):
        refusal(regions_from_request, request)
    names = [name for cell, _ in rows("| name | part of the image |") for name in re.findall("`(.+?)`", cell)]
    assert sorted(names) == sorted(REGIONS)
