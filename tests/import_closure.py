"""Which project files a stage's code rests on: the imports of its modules, followed."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def import_closure(module: str) -> set[str]:
    """Return the paths (relative to the project) of all project modules that `module` imports, and its own.

    Files `__init__.py` are left out: they hold a docstring alone. Imports inside functions count; those under
    `if TYPE_CHECKING` do not: they are never carried out.
    """
    visited: set[Path] = set()
    waiting = [module]
    while waiting:
        path = file_of(waiting.pop())
        if path not in visited:
            visited.add(path)
            waiting += imports_of(path)
    return {path.relative_to(ROOT).as_posix() for path in visited if path.name != "__init__.py"}


def imports_of(path: Path) -> set[str]:
    """Return the project modules that a file imports, those aside that are imported for types alone."""
    named = _named(ast.parse(path.read_text(encoding="utf-8")))
    own = {name for name in named if name.split(".")[0] in ("pipeline", "stages")}
    # Importing a.b.c runs a/__init__.py and a/b/__init__.py as well.
    own |= {name.rsplit(".", depth)[0] for name in own for depth in range(name.count(".") + 1)}
    return {name for name in own if file_of(name).is_file()}


def file_of(module: str) -> Path:
    """Return the file of a module, or the `__init__.py` of a package."""
    base = ROOT.joinpath(*module.split("."))
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def _named(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from pipeline import regions` may name a module or something inside one.
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        names |= _named(node)
    return names
