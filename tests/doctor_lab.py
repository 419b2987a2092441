"""A folder for `vlm doctor` to examine, and what it says of it."""

import json
from collections.abc import Callable
from typing import Any

from click.testing import CliRunner, Result

from pipeline.params.schema import Params
from vlm.main import main

Write = Callable[[Params], None]


def run(*args: str) -> Result:
    return CliRunner().invoke(main, ["doctor", *args])


def findings() -> dict[str, dict[str, Any]]:
    """By topic, what the command prints as JSON; of several of a topic the last."""
    return {row["topic"]: row for row in json.loads(run("--json").stdout)}
