"""The house: rooms are few and small, import one way only, and hold short functions.

Run: .venv/bin/python -m pytest tests/contract/test_rooms.py
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.import_closure import ROOT, file_of, imports_of

PACKAGE = ROOT / "pipeline"
# From the bottom up: a room imports from itself and from those before it.
ORDER = (
    "errors.py",
    "files",
    "params",
    "hardware",
    "pretrained",
    "captions.py",
    "result_code.py",
    "images",
    "datasets",
    "vision",
    "features",
    "encoding",
    "cluster",
    "metrics",
    "retrieval",
    "text",
    "model",
    "training",
    "evaluation",
    "regions",
    "report",
    "export",
)
ROOMS = [PACKAGE / name for name in ORDER if not name.endswith(".py")]
# `pipeline/__init__.py` names what the package offers, which is loaded on first use.
IMPORTS = {
    path: {file_of(name) for name in imports_of(path) if name.startswith("pipeline.")} - {path}
    for path in PACKAGE.rglob("*.py")
    if path != PACKAGE / "__init__.py"
}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0]


def test_every_module_is_in_a_room() -> None:
    assert {room_of(path) for path in IMPORTS} == set(ORDER)
    assert len(list(PACKAGE.glob("*.py"))) <= 4


def test_a_room_has_at_most_thirteen_files_and_an_init_of_one_docstring() -> None:
    assert {room.name for room in ROOMS if len(list(room.glob("*.py"))) > 13} == set()
    for room in ROOMS:
        body = ast.parse((room / "__init__.py").read_text(encoding="utf-8")).body
        assert [type(node) for node in body] == [ast.Expr], room


def test_a_room_imports_only_from_rooms_below_it() -> None:
    place = {room: number for number, room in enumerate(ORDER)}
    upward = {
        (str(path.relative_to(PACKAGE)), room_of(other))
        for path, imported in IMPORTS.items()
        for other in imported
        if place[room_of(other)] > place[room_of(path)]
    }
    assert upward == set()


def test_no_module_is_imported_by_what_it_imports() -> None:
    """Repeatedly take away the modules that import nothing that is left: a circle stays."""
    left = dict(IMPORTS)
    while leaves := {path for path, imported in left.items() if not imported & left.keys()}:
        left = {path: imported for path, imported in left.items() if path not in leaves}
    assert sorted(left) == []


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    """All functions of the code that users run, by file and name; click commands aside."""
    for package in ("pipeline", "stages", "vlm"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef) and "click." not in "".join(
                    map(ast.unparse, node.decorator_list)
                ):
                    yield f"{path.relative_to(ROOT)}: {node.name}", node


def test_a_function_has_at_most_six_parameters_and_sixty_lines() -> None:
    long = []
    for name, node in functions():
        arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
        parameters = [argument.arg for argument in arguments if argument.arg not in ("self", "cls")]
        if len(parameters) > 6 or (node.end_lineno or 0) - node.lineno >= 60:
            long.append(name)
    assert long == []
