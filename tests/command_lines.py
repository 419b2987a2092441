"""Whether a command that a page shows can be given: the programs' own parsers read it, and nothing is run."""

import argparse
import ast
import contextlib
import importlib
import io
import itertools
import re
import shlex
import subprocess
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from ruamel.yaml import YAML

from pipeline.params.loader import load_params
from tests.import_closure import ROOT
from vlm.main import main as vlm

OWN_PACKAGES = ("pipeline", "stages", "vlm", "benchmarks")
# Programs of other projects: nothing of this one can make their commands wrong.
_FOREIGN = """
    : apt-get base64 cat cd curl df du export head jupyter kill ls mkdir mv nvidia-smi printf ray rm rsync
    sbatch sleep source srun ssh sudo tail tar test top unzip vllm watch wc xdg-open
"""
FOREIGN = frozenset(_FOREIGN.split())


def commands_of(group: click.Group, words: str = "") -> dict[str, click.Command]:
    """All commands of a group and of its groups, by the words that call them."""
    found: dict[str, click.Command] = {words.strip(): group}
    for name, command in group.commands.items():
        below = f"{words} {name}"
        found |= commands_of(command, below) if isinstance(command, click.Group) else {below.strip(): command}
    return found


VLM = commands_of(vlm)


def check(words: list[str], complete: bool = True) -> None:
    """Fail unless the words, a program and its arguments, can be given.

    Where they are not `complete`, names and options have to be right, and arguments may be missing or stand
    for others (`NAME`).
    """
    program = Path(words[0]).name
    if program in FOREIGN:
        return
    assert program in PROGRAMS, (
        f"{program} is no program that {Path(__file__).name} knows: {shlex.join(words)}"
    )
    PROGRAMS[program](words[1:], complete)


def check_click(command: click.Command, words: list[str], complete: bool = True) -> None:
    """Parse the words as click does, and carry nothing out: whether files are there is another question."""
    if hasattr(command, "materialize"):  # hf loads its commands when they are asked for
        command = command.materialize()
    context = click.Context(command, info_name=command.name)
    values, rest, _ = command.make_parser(context).parse_args(list(words))
    if isinstance(command, click.Group):
        if rest:
            below = command.get_command(context, rest[0])
            assert below is not None, f"{command.name} has no command {rest[0]}"
            check_click(below, rest[1:], complete)
        return
    assert not rest, f"{command.name} takes no {rest}"
    for parameter in command.params:
        value = values.get(parameter.name or "")
        assert value or not (complete and parameter.required), f"{parameter.name} is missing"
        if isinstance(parameter.type, click.Choice) and isinstance(value, str):
            assert value in parameter.type.choices, f"{value} is none of {parameter.type.choices}"


def check_override(assignment: str) -> None:
    """`section.key=value`: a key that there is, and a value (each, of a sweep) that it allows."""
    key, _, text = assignment.partition("=")
    sections = key.split(".")
    loader = YAML(typ="safe", pure=True)
    for value in [text] if "[" in text else text.split(","):
        content: Any = loader.load((ROOT / "profiles" / "sample.yaml").read_text(encoding="utf-8"))
        section = content
        for name in sections[:-1]:
            assert isinstance(section, dict), f"no parameter {key}"
            assert name in section, f"no parameter {key}"
            section = section[name]
        assert sections[-1] in section, f"no parameter {key}"
        section[sections[-1]] = loader.load(value)
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            YAML().dump(content, file)
            file.flush()
            load_params(Path(file.name))


def _check_vlm(words: list[str], complete: bool) -> None:
    check_click(vlm, words, complete)


def _check_cp(words: list[str], _complete: bool) -> None:
    if words[-1] == "params.yaml":
        assert (ROOT / words[0]).is_file(), f"no profile {words[0]}"


def _check_dvc(words: list[str], complete: bool) -> None:
    from dvc.cli.parser import get_main_parser

    namespace = _parsed(get_main_parser(), words, complete)
    for before, word in itertools.pairwise(words):
        if before in ("-S", "--set-param"):
            check_override(word)
    if namespace and (words[:1] == ["repro"] or words[:2] == ["exp", "run"]):
        stages = YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
        for target in namespace.targets or []:
            # A variable of the shell stands for what only the user knows.
            assert target.startswith("$") or target in stages, f"no stage {target}"


def _check_make(words: list[str], _complete: bool) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in [word for word in words if "=" not in word and not word.startswith("-")]:
        assert re.search(rf"^{re.escape(target)}:", makefile, re.M), f"no target {target}"


def _check_python(words: list[str], complete: bool) -> None:
    if words[:1] == ["-c"]:
        ast.parse(words[1])
    elif words[:1] == ["-m"]:
        check_module(words[1], words[2:], complete)
    elif words and not words[0].startswith("-"):
        assert (ROOT / words[0]).is_file(), f"no file {words[0]}"


def check_module(module: str, words: list[str], complete: bool = True) -> None:
    """`python -m MODULE ...`: a module that there is, with the arguments that its command takes."""
    if module in ("pip", "pytest"):
        PROGRAMS[module](words, complete)
        return
    package, _, rest = module.partition(".")
    if package not in OWN_PACKAGES or rest.isupper():
        return
    base = ROOT.joinpath(*module.split("."))
    assert base.with_suffix(".py").is_file() or (base / "__main__.py").is_file(), f"no module {module}"
    main = vlm if module == "vlm" else getattr(importlib.import_module(module), "main", None)
    if isinstance(main, click.Command):
        check_click(main, words, complete)


def _check_pytest(words: list[str], _complete: bool) -> None:
    for word in words:
        if word.startswith("tests"):
            assert (ROOT / word.split("::")[0]).exists(), f"no tests {word}"


def _check_pip(words: list[str], _complete: bool) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for before, word in itertools.pairwise(words):
        if before in ("-r", "--requirement", "-c", "--constraint"):
            assert (ROOT / word).is_file(), f"no file {word}"
    for extras in re.findall(r"^\.\[([\w,-]+)\]$", "\n".join(words), re.M):
        for extra in extras.split(","):
            assert extra in project["optional-dependencies"], f"no extra {extra}"


def _check_git(words: list[str], _complete: bool) -> None:
    known = subprocess.run(["git", "--list-cmds=main"], capture_output=True, text=True, check=True).stdout
    assert words[0] in known.split(), f"git has no command {words[0]}"


def _check_hf(words: list[str], complete: bool) -> None:
    from huggingface_hub.cli.hf import app

    check_click(app, words, complete)


def _check_torchrun(words: list[str], complete: bool) -> None:
    from torch.distributed.run import get_args_parser

    _check_launched(get_args_parser(), words, complete)


def _check_accelerate(words: list[str], complete: bool) -> None:
    from accelerate.commands.launch import launch_command_parser

    assert words[0] == "launch", f"accelerate {words[0]}"
    _check_launched(launch_command_parser(), words[1:], complete)


def _check_launched(parser: argparse.ArgumentParser, words: list[str], complete: bool) -> None:
    namespace = _parsed(parser, words, complete)
    if namespace and namespace.module:
        check_module(namespace.training_script, namespace.training_script_args)


def _parsed(
    parser: argparse.ArgumentParser, words: list[str], complete: bool = True
) -> argparse.Namespace | None:
    """What argparse makes of the words; of incomplete ones nothing, but names and options must be known."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            return parser.parse_args(words if complete else [*words, "--help"])
        # DVC has an exception of its own, argparse exits.
        except (Exception, SystemExit) as error:
            is_help = getattr(error, "code", None) == 0
    told = f"{parser.prog} {shlex.join(words)}: {said.getvalue()[-200:]}"
    assert not complete, told
    assert is_help, told
    for option in [word.split("=")[0] for word in words if word.startswith("--")]:
        assert option in said.getvalue(), f"{parser.prog} {shlex.join(words)}: no option {option}"
    return None


def _check_rm(words: list[str], _complete: bool) -> None:
    assert words == ["params.yaml"], "a page has somebody remove what git does not bring back"


PROGRAMS: dict[str, Callable[[list[str], bool], None]] = {
    "cp": _check_cp,
    "vlm": _check_vlm,
    "dvc": _check_dvc,
    "make": _check_make,
    "python": _check_python,
    "python3": _check_python,
    "pytest": _check_pytest,
    "pip": _check_pip,
    "git": _check_git,
    "rm": _check_rm,
    "hf": _check_hf,
    "torchrun": _check_torchrun,
    "accelerate": _check_accelerate,
}
