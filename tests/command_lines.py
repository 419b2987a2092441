"""Whether a command that a page shows can be given: the programs' own parsers read it, and nothing is run."""

import contextlib
import importlib
import io
import itertools
import re
import shlex
from pathlib import Path
from typing import Any

import click
from ruamel.yaml import YAML

from pipeline.params.loader import validated
from pipeline.params.schema import PARAMS
from tests.import_closure import ROOT
from vlm.main import main as vlm

OWN_PACKAGES = ("pipeline", "stages", "vlm", "benchmarks")
# Programs of other projects; of their arguments, paths and modules of this project have to exist.
_FOREIGN = """
    : accelerate apt-get base64 cat cd cp curl df du export git head hf jupyter kill ls mkdir mv nvidia-smi
    pip printf pytest python python3 ray rm rsync sbatch sleep source srun ssh sudo tail tar test top torchrun
    unzip vllm watch wc xdg-open
"""
FOREIGN = frozenset(_FOREIGN.split())
_PATH = re.compile(r"(tests|profiles|requirements)[\w./-]*")


def commands_of(group: click.Group, words: str = "") -> dict[str, click.Command]:
    """All commands of a group and of its groups, by the words that call them."""
    commands: dict[str, click.Command] = {words: group}
    for name, command in group.commands.items():
        path = f"{words} {name}".strip()
        commands |= commands_of(command, path) if isinstance(command, click.Group) else {path: command}
    return commands


VLM = commands_of(vlm)


def check(words: list[str]) -> None:
    """Fail unless the words, a program and its arguments, can be given."""
    program, arguments = Path(words[0]).name, words[1:]
    if program == "vlm":
        _check_click(vlm, arguments)
    elif program == "dvc":
        _check_dvc(arguments)
    elif program == "make":
        _check_make(arguments)
    else:
        assert program in FOREIGN, f"unknown program: {shlex.join(words)}"
        for word in filter(_PATH.match, arguments):
            assert (ROOT / word.split("::")[0]).exists(), f"no file {word}"
    for place, word in enumerate(arguments, start=1):
        if word == "-m" and arguments[place].split(".")[0] in OWN_PACKAGES:
            _check_module(arguments[place], arguments[place + 1 :])


def _check_click(command: click.Command, words: list[str]) -> None:
    """Parse the words as click does, and carry nothing out: whether files are there is another question."""
    context = click.Context(command, info_name=command.name)
    values, rest, _ = command.make_parser(context).parse_args(list(words))
    if isinstance(command, click.Group) and rest:
        subcommand = command.get_command(context, rest[0])
        assert subcommand is not None, f"{command.name} has no command {rest[0]}"
        _check_click(subcommand, rest[1:])
        return
    assert not rest, f"{command.name} takes no {rest}"
    for parameter in command.params:
        value = values.get(parameter.name or "")
        assert value or not parameter.required, f"{parameter.name} is missing"
        if isinstance(parameter.type, click.Choice) and isinstance(value, str):
            assert value in parameter.type.choices, f"{value} is not in {parameter.type.choices}"


def _check_dvc(words: list[str]) -> None:
    from dvc.cli.parser import get_main_parser

    errors = io.StringIO()
    with contextlib.redirect_stdout(errors), contextlib.redirect_stderr(errors):
        try:
            namespace = get_main_parser().parse_args(words)
        except Exception as error:  # DVC's own exceptions say nothing more than what it printed
            raise AssertionError(f"dvc {shlex.join(words)}: {errors.getvalue()[-200:]}") from error
    for before, word in itertools.pairwise(words):
        if before in ("-S", "--set-param"):
            _check_override(word)
    if words[:1] == ["repro"] or words[:2] == ["exp", "run"]:
        stages = YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
        for target in namespace.targets or []:
            # A variable of the shell stands for what only the user knows.
            assert target.startswith("$") or target in stages, f"no stage {target}"


def _check_override(assignment: str) -> None:
    """`section.key=value`: a key that exists, and a value (each, of a sweep) that it allows."""
    key, _, text = assignment.partition("=")
    *sections, name = key.split(".")
    loader = YAML(typ="safe", pure=True)
    for value in [text] if "[" in text else text.split(","):
        content: Any = loader.load((ROOT / "profiles" / "sample.yaml").read_text(encoding="utf-8"))
        section = content
        for parent in sections:
            section = section[parent]
        section[name] = loader.load(value)
        validated(PARAMS, content, Path(assignment), "profiles/sample.yaml")


def _check_make(words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in [word for word in words if "=" not in word and not word.startswith("-")]:
        assert re.search(rf"^{re.escape(target)}:", makefile, re.M), f"no target {target}"


def _check_module(module: str, words: list[str]) -> None:
    """`-m MODULE ...`: a module that exists, with the arguments that its command takes."""
    if module.rpartition(".")[2].isupper():  # stands for any module
        return
    base = ROOT.joinpath(*module.split("."))
    assert base.with_suffix(".py").is_file() or (base / "__main__.py").is_file(), f"no module {module}"
    main = vlm if module == "vlm" else getattr(importlib.import_module(module), "main", None)
    if isinstance(main, click.Command):
        _check_click(main, words)
