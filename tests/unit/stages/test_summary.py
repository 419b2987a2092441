"""What is printed after a run: `pytest tests/unit/stages/test_summary.py`."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.files.json_files import write_json
from stages.summary import main


@pytest.mark.parametrize(("consensus", "is_below"), [(34.5, True), (30.25, False)])
def test_a_model_below_a_control_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, consensus: float, is_below: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ("bleu_1", "bleu_4", "cider", "rouge_l")

    def scores(cider: float) -> dict[str, float]:
        return {**dict.fromkeys(names, 20.0), "cider": cider}

    evaluation = {
        "best_epoch": 1,
        "selected_by": "bleu_4",
        "images": {"test": 150},
        "test": scores(30.25),
        "intervals": {"test": {name: {"low": 10, "high": 40} for name in names}},
        "controls": {"nearest": scores(26.5), "consensus": scores(consensus)},
    }
    write_json(Path("metrics/evaluate.json"), evaluation)
    write_json(Path("metrics/regions.json"), {})
    printed = CliRunner().invoke(main).output
    assert "consensus of the nearest" in printed
    sentence = "The captions say less than “consensus of the nearest”: CIDEr 30.25 against 34.50."
    assert (sentence in printed.splitlines()) == is_below
    assert ("say less" in printed) == is_below
