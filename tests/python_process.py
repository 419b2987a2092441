"""Code of the project in its own process, in the current folder."""

import os
import subprocess
import sys
from subprocess import CompletedProcess

from tests.import_closure import ROOT


def run_python(code: str, *words: str, status: int = 0, **variables: str) -> CompletedProcess[str]:
    """Run code with arguments and variables of the environment; it must exit with `status`."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, "-c", code, *words]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == status, result.stderr
    return result
