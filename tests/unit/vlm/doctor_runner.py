"""`vlm doctor`, run in the current folder, and what it found."""

import json
from collections.abc import Callable
from typing import Any

from click.testing import CliRunner, Result

from pipeline.params.schema import Params
from vlm.main import main

Write = Callable[[Params], None]


def run(*args: str) -> Result:
    return CliRunner().invoke(main, ["doctor", *args])


def results(topic: str) -> list[dict[str, Any]]:
    """What the command prints of a topic as JSON."""
    return [row for row in json.loads(run("--json").stdout) if row["topic"] == topic]


def result(topic: str) -> dict[str, Any]:
    """The one result of a topic."""
    (only,) = results(topic)
    return only
