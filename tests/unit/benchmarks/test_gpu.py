"""The program that measures a GPU goes through all of its parts, and says which it did not reach."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.import_closure import ROOT


def measure(results: Path, *options: str) -> tuple[str, list[dict[str, Any]]]:
    """Run the program with tiny models on the CPU; return what it prints, and the lines of its file."""
    words = ["-m", "benchmarks.gpu", "--device", "cpu", "--tiny", "--results", str(results), *options]
    run = subprocess.run([sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return run.stdout, [json.loads(line) for line in results.read_text().splitlines()]


@pytest.mark.slow
def test_all_parts_are_gone_through_and_each_result_is_in_the_file(tmp_path: Path) -> None:
    # Not its nine minutes: other work on the machine would decide which parts it reaches.
    printed, rows = measure(tmp_path / "gpu.jsonl", "--minutes", "45")
    outcomes = {row["part"]: row["outcome"] for row in rows if "outcome" in row}
    assert set(outcomes.values()) == {"finished"}, outcomes
    measured = {row["part"] for row in rows if "outcome" not in row}
    assert measured == outcomes.keys() - {"tests"}
    sides = {row["side"] for row in rows if row["part"] == "training" and "side" in row}
    assert sides == {"peer, 2", "ours, 2"}
    assert [row["stage"] for row in rows if row["part"] == "run" and "stage" in row][-1] == "report"
    assert "everything was reached" in printed


def test_what_the_time_does_not_suffice_for_is_named(tmp_path: Path) -> None:
    printed, rows = measure(tmp_path / "gpu.jsonl", "--minutes", "0")
    assert {row["outcome"] for row in rows} == {"not reached"}
    assert "not finished: tests, training," in printed


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA GPU")
def test_without_a_gpu_it_says_so() -> None:
    run = subprocess.run([sys.executable, "-m", "benchmarks.gpu"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 1
    assert "The device cuda is not available" in run.stderr
