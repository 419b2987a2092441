"""Whether a command that a page shows exists: its parser reads it, and nothing is run."""

import importlib
from pathlib import Path

import click
from ruamel.yaml import YAML

from pipeline.params.loader import PARAMS
from tests.import_closure import ROOT
from vlm.main import main as vlm

OWN_PACKAGES = ("pipeline", "stages", "vlm", "benchmarks")


def commands_of(group: click.Group, words: str = "") -> dict[str, click.Command]:
    """All commands of a group and of its groups, by the words that call them."""
    commands: dict[str, click.Command] = {words: group}
    for name, command in group.commands.items():
        below = f"{words} {name}".strip()
        commands |= commands_of(command, below) if isinstance(command, click.Group) else {below: command}
    return commands


VLM = commands_of(vlm)


def check(words: list[str]) -> None:
    """Fail unless the words, a program and its arguments, are a command that exists."""
    program, arguments = Path(words[0]).name, words[1:]
    if "-m" in arguments:
        place = arguments.index("-m") + 1
        check_module(arguments[place], arguments[place + 1 :])
    elif program == "vlm":
        check_click(vlm, arguments)
    elif program == "dvc":
        check_dvc(arguments)
    elif program == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        targets = [word for word in arguments if "=" not in word and not word.startswith("-")]
        assert [target for target in targets if f"\n{target}:" not in makefile] == []
    elif program == "cp" and arguments[-1] == "params.yaml":
        assert (ROOT / arguments[0]).is_file(), arguments[0]


def check_module(module: str, arguments: list[str]) -> None:
    """Check `python -m MODULE ARGUMENTS` (or `torchrun -m`) for a module of this project."""
    if module.split(".")[0] in OWN_PACKAGES and not module.endswith(".NAME"):
        command = vlm if module == "vlm" else getattr(importlib.import_module(module), "main", None)
        if isinstance(command, click.Command):
            check_click(command, arguments)


def check_click(command: click.Command, arguments: list[str]) -> None:
    """Parse the arguments as click does, and run nothing: whether files exist is another question."""
    context = click.Context(command, info_name=command.name)
    values, rest, _ = command.make_parser(context).parse_args(list(arguments))
    if isinstance(command, click.Group):
        if rest:
            check_click(command.commands[rest[0]], rest[1:])
        return
    assert not rest, f"{command.name} takes no {rest}"
    for parameter in command.params:
        value = values.get(parameter.name or "")
        assert value or not parameter.required, f"{parameter.name} is missing"
        if isinstance(parameter.type, click.Choice) and isinstance(value, str):
            assert value in parameter.type.choices


def check_dvc(arguments: list[str]) -> None:
    """Check a command of DVC: its options, its stages, and the settings that it changes."""
    from dvc.cli.parser import get_main_parser

    parsed = get_main_parser().parse_args(arguments)
    if arguments[0] == "repro" or arguments[:2] == ["exp", "run"]:
        stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
        # A variable of the shell stands for what only the user knows.
        assert [target for target in parsed.targets or [] if target[0] != "$" and target not in stages] == []
    for assignment in getattr(parsed, "set_param", None) or []:
        check_setting(*assignment.split("=", 1))


def check_setting(key: str, text: str) -> None:
    """Check that `section.key=value` has a key that exists and a value (or several) that it allows."""
    yaml = YAML(typ="safe", pure=True)
    *sections, name = key.split(".")
    for value in [text] if "[" in text else text.split(","):
        content = yaml.load(ROOT / "params.yaml")
        section = content
        for part in sections:
            section = section[part]
        assert name in section, key
        section[name] = yaml.load(value)
        PARAMS.validate_python(content)
