"""The rooms of `pipeline/`: imports between them go one way, and no file imports itself by a detour.

Run: .venv/bin/python -m pytest tests/contract/test_rooms.py
"""

import ast
from pathlib import Path

import pytest

from tests.import_closure import ROOT, imports_of

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
    "text",
    "model",
    "training",
    "metrics",
    "evaluation",
    "regions",
    "report",
    "export",
)
MODULES = {
    path: {name for name in imports_of(ast.parse(path.read_text(encoding="utf-8"))) if "pipeline." in name}
    for path in PACKAGE.rglob("*.py")
    # It names what the package offers, which is loaded on first use.
    if path != PACKAGE / "__init__.py"
}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0]


def file_of(module: str) -> Path:
    base = ROOT.joinpath(*module.split("."))
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


IMPORTS = {path: {file_of(name) for name in names} - {path} for path, names in MODULES.items()}


def test_every_module_is_in_a_room() -> None:
    assert {room_of(path) for path in IMPORTS} == set(ORDER)
    assert len(list(PACKAGE.glob("*.py"))) <= 4


@pytest.mark.parametrize("room", ORDER)
def test_a_room_imports_only_from_rooms_below_it(room: str) -> None:
    allowed = set(ORDER[: ORDER.index(room) + 1])
    for path, imported in IMPORTS.items():
        if room_of(path) == room:
            assert {room_of(other) for other in imported} <= allowed, path


def test_no_module_is_imported_by_what_it_imports() -> None:
    """Repeatedly take away the modules that import nothing that is left: a circle stays."""
    left = {path: set(imported) for path, imported in IMPORTS.items()}
    while leaves := {path for path, imported in left.items() if not imported & left.keys()}:
        left = {path: imported for path, imported in left.items() if path not in leaves}
    assert sorted(left) == []


@pytest.mark.parametrize("room", [room for room in ORDER if not room.endswith(".py")])
def test_a_room_is_small_and_its_init_is_one_docstring(room: str) -> None:
    assert len(list((PACKAGE / room).glob("*.py"))) <= 13
    (only,) = ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8")).body
    assert isinstance(only, ast.Expr)
