"""Which project files a stage's code rests on: the imports of its modules, followed."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("pipeline", "stages")


def import_closure(module: str) -> set[str]:
    """Paths (relative to the project) of all project modules that `module` imports, itself included.

    Imports inside functions count, those under `if TYPE_CHECKING` do not: they are never carried out.
    """
    found: set[str] = set()
    waiting = [module]
    while waiting:
        path = _file(waiting.pop())
        name = path.relative_to(ROOT).as_posix()
        if name in found:
            continue
        found.add(name)
        waiting += imports_of(ast.parse(path.read_text(encoding="utf-8")))
    return found


def imports_of(tree: ast.AST) -> set[str]:
    """The project modules that a module imports, those aside that are imported for types alone."""
    modules: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from pipeline import regions` may name a module or something inside one.
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        modules |= imports_of(node)
    own = {m for m in modules if m.split(".")[0] in PACKAGES}
    # Importing a.b.c runs a/__init__.py and a/b/__init__.py as well.
    own |= {m.rsplit(".", depth)[0] for m in own for depth in range(m.count(".") + 1)}
    return {m for m in own if _exists(m)}


def _exists(module: str) -> bool:
    base = ROOT.joinpath(*module.split("."))
    return base.with_suffix(".py").is_file() or (base / "__init__.py").is_file()


def _file(module: str) -> Path:
    base = ROOT.joinpath(*module.split("."))
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
