"""The program that measures a GPU goes through all of its parts, here with tiny models on the CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.import_closure import ROOT


@pytest.mark.slow
def test_all_parts_are_gone_through_and_each_result_is_in_the_file(tmp_path: Path) -> None:
    results = tmp_path / "gpu.jsonl"
    words = ["-m", "benchmarks.gpu", "--device", "cpu", "--tiny", "--results", str(results)]
    run = subprocess.run([sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    outcomes = {row["part"]: row["outcome"] for row in rows if "outcome" in row}
    assert set(outcomes.values()) == {"finished"}, outcomes
    measured = {row["part"] for row in rows if "outcome" not in row}
    assert measured == outcomes.keys() - {"tests"}
    assert "everything was reached" in run.stdout
