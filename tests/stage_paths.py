"""Where a stage reads and writes, below a folder instead of in the current one."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

Paths = TypeVar("Paths")


def placed(paths: Paths, folder: Path) -> Paths:
    """The paths of a stage as dvc.yaml lays them out, below `folder`."""
    stage: Any = paths
    below: Paths = replace(stage, **{f.name: folder / getattr(stage, f.name) for f in fields(stage)})
    return below
