"""Parameters with changes, and as the file that the stages read."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.params.loader import PARAMS
from pipeline.params.schema import Params


def with_changes(params: Params, **sections: dict[str, Any]) -> Params:
    """The parameters with other values of these keys of these sections."""
    changed: dict[str, Any] = {
        name: replace(getattr(params, name), **values) for name, values in sections.items()
    }
    return replace(params, **changed)


def write_params(path: Path, params: Params) -> None:
    """Write `params` as params.yaml."""
    with path.open("w", encoding="utf-8") as file:
        YAML().dump(PARAMS.dump_python(params, mode="json"), file)
