"""Parameters written as the file that the stages read."""

from pathlib import Path

from ruamel.yaml import YAML

from pipeline.params.loader import PARAMS
from pipeline.params.schema import Params


def write_params(path: Path, params: Params) -> None:
    """Write `params` as params.yaml."""
    with path.open("w", encoding="utf-8") as file:
        YAML().dump(PARAMS.dump_python(params, mode="json"), file)
