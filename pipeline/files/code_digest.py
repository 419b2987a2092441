"""Which code a result was computed with: kept work of other code must not be taken for that of this one."""

import hashlib
from pathlib import Path
from types import ModuleType


def code_digest(*modules: ModuleType) -> str:
    """SHA-256 (hex) over the names and sources of modules, whatever their order.

    For fingerprints of kept work: DVC runs a stage again when its code changes, and what the stage kept of
    earlier runs must then be none of its own.
    """
    total = hashlib.sha256()
    for module in sorted(modules, key=lambda one: one.__name__):
        if module.__file__ is None:
            raise ValueError(f"{module.__name__} has no source file")
        source = hashlib.sha256(Path(module.__file__).read_bytes()).hexdigest()
        total.update(f"{module.__name__} {source}\n".encode())
    return total.hexdigest()
