"""What commands print: their own sentences, and of libraries only errors.

Run: .venv/bin/python -m pytest tests/unit/stages/test_errors.py
"""

import click
import pytest
import torch
from click.testing import CliRunner

from pipeline.errors import PipelineError
from pipeline.params.schema import Params
from stages.console import stage_command
from stages.errors import report_user_errors
from tests.import_closure import ROOT
from tests.python_process import run_python


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (PipelineError("the box is empty."), click.ClickException, "the box is empty"),
        (torch.OutOfMemoryError("CUDA"), click.ClickException, r"train\.batch_size.*generate_batch_size"),
        (ZeroDivisionError("division"), ZeroDivisionError, "division"),
    ],
)
def test_only_a_foreseen_error_is_a_sentence(error: Exception, kind: type[Exception], words: str) -> None:
    @report_user_errors
    def fail() -> None:
        raise error

    with pytest.raises(kind, match=words):
        fail()


def test_an_interrupted_stage_says_what_to_do_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_: Params) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(stage_command(stop))
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: interrupted; run the same command again.")


NOISE = """
import logging
from stages.errors import quiet_libraries
quiet_libraries(logging.INFO)
import transformers, huggingface_hub
from huggingface_hub.utils import httpx
from transformers.utils import logging as theirs
theirs.get_logger("transformers.loading").warning("a report on loading")
logging.getLogger(httpx.__name__).info("HTTP Request: GET https://cdn/a?signature=b")
logging.getLogger("pipeline.training.trainer").info("a fact of ours")
theirs.get_logger("transformers.loading").error("an error of theirs")
huggingface_hub.logging.get_logger("huggingface_hub.utils._http").warning("Retrying in 1s")
"""


def test_libraries_are_quiet_until_something_is_wrong() -> None:
    """They set their levels when they are imported, which is after the command has begun."""
    printed = run_python(NOISE).stderr
    assert "a fact of ours" in printed
    assert "an error of theirs" in printed
    for noise in ("a report on loading", "HTTP Request", "Retrying"):
        assert noise not in printed
