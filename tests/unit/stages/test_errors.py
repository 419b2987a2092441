"""What commands say: their own facts and sentences, and nothing of the libraries' but errors.

Run: .venv/bin/python -m pytest tests/unit/stages/test_errors.py
"""

import subprocess
import sys
from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner

from pipeline.errors import PipelineError
from stages.console import stage_command
from stages.errors import report_user_errors


def said(error: Exception) -> str:
    @report_user_errors
    def fail() -> None:
        raise error

    with pytest.raises(click.ClickException) as caught:
        fail()
    return caught.value.message


def test_an_error_of_ours_is_its_sentence() -> None:
    assert said(PipelineError("the box is empty.")) == "the box is empty."


def test_a_full_gpu_names_the_parameters_to_lower() -> None:
    sentence = said(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."))
    for parameter in ("train.batch_size", "runtime.encode_batch_size", "runtime.generate_batch_size"):
        assert parameter in sentence


def test_what_is_not_foreseen_keeps_its_traceback() -> None:
    @report_user_errors
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()


def test_an_interrupted_stage_says_what_to_do_and_fails() -> None:
    def stop(_: Path) -> None:
        raise KeyboardInterrupt

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
    done = subprocess.run([sys.executable, "-c", NOISE], capture_output=True, text=True, check=True)
    assert "a fact of ours" in done.stderr
    assert "an error of theirs" in done.stderr
    assert "a report on loading" not in done.stderr
    assert "HTTP Request" not in done.stderr
    assert "Retrying" not in done.stderr
