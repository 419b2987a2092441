"""docs/architecture.md's table of layers: every module has its place, and imports go one way."""

import ast
import re

import pytest

from tests.import_closure import ROOT, imports_of

PACKAGE = ROOT / "pipeline"
# Packages whose modules share a place.
PACKAGES = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
MODULES = {path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__"} | PACKAGES


def layers() -> list[set[str]]:
    """The modules of each row, the ground first."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = page.split("| layer | modules |\n|---|---|\n")[1].split("\n\n")[0].splitlines()
    return [{name.rstrip("/") for name in re.findall(r"`([\w/]+)`", row)} for row in rows]


LAYERS = layers()


def imported_by(module: str) -> set[str]:
    paths = (PACKAGE / module).glob("*.py") if module in PACKAGES else [PACKAGE / f"{module}.py"]
    names = {name for path in paths for name in imports_of(ast.parse(path.read_text(encoding="utf-8")))}
    return {name.split(".")[1] for name in names if name.startswith("pipeline.")} - {module}


def test_every_module_has_one_place() -> None:
    assert sorted(name for layer in LAYERS for name in layer) == sorted(MODULES)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_imports_from_its_own_layer_and_those_before_it(module: str) -> None:
    place = next(number for number, layer in enumerate(LAYERS) if module in layer)
    allowed = set().union(*LAYERS[: place + 1])
    assert imported_by(module) <= allowed
