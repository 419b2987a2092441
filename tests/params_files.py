"""Parameters written as the file that the stages read."""

from dataclasses import asdict
from pathlib import Path

from ruamel.yaml import YAML

from pipeline.params.schema import Params


def write_params(path: Path, params: Params) -> None:
    """Write `params` as params.yaml."""
    with path.open("w", encoding="utf-8") as file:
        YAML().dump(_plain(asdict(params)), file)


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(of) for key, of in value.items()}
    return [_plain(of) for of in value] if isinstance(value, tuple) else value
