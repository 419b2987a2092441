"""The projector alone, and the code that model cards and pages show: it runs and says the caption.

Run: .venv/bin/python -m pytest tests/unit/export/test_export_cards.py
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoTokenizer,
)

from pipeline.export.projector import export_projector
from pipeline.model.checkpoints import load_checkpoint
from tests.export_lab import Train, Trained, pictures, python_blocks
from tests.import_closure import ROOT


def test_the_projector_alone_computes_what_training_did(train: Train, tmp_path: Path) -> None:
    """Standardisation is folded in, and a narrow hidden layer filled up; features far from zero show it."""
    for hidden_size in (48, 64, 80):
        checkpoint = train(hidden_size=hidden_size).checkpoint
        projector = load_checkpoint(checkpoint).projector
        folder = export_projector(checkpoint, tmp_path / str(hidden_size))
        weights = load_file(folder / "mm_projector.safetensors")
        assert set(weights) == {
            f"model.mm_projector.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")
        }
        assert weights["model.mm_projector.0.weight"].shape == (max(hidden_size, 64), 32)
        features = torch.randn(5, 32, generator=torch.Generator().manual_seed(0)) + 3
        hidden = torch.nn.functional.gelu(
            features @ weights["model.mm_projector.0.weight"].T + weights["model.mm_projector.0.bias"]
        )
        output = hidden @ weights["model.mm_projector.2.weight"].T + weights["model.mm_projector.2.bias"]
        assert torch.allclose(output, projector(features), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("tokens", "grid", "select"),
    [
        ("patches", None, "patch"),
        ("cls+patches", None, "cls_patch"),
        ("mean", None, "mean"),
        ("patches", 2, "patches averaged onto 2x2"),
    ],
)
def test_the_projectors_configuration_has_llavas_words(
    train: Train, tmp_path: Path, tokens: str, grid: int | None, select: str
) -> None:
    folder = export_projector(train(tokens, grid=grid).checkpoint, tmp_path / "projector")
    config = json.loads((folder / "config.json").read_text())
    assert config["mm_projector_type"] == "mlp2x_gelu"
    assert (config["mm_hidden_size"], config["hidden_size"]) == (32, 64)
    assert config["mm_vision_tower"] == "tiny-clip"
    assert (config["mm_vision_select_layer"], config["mm_vision_select_feature"]) == (-2, select)


def test_the_cards_code_runs_and_says_the_caption(
    trained: Trained,
    exported: Path,
    tiny_llama: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = shutil.copytree(exported, tmp_path / "model")
    pictures()[0].save(folder / "photo.jpg", format="PNG")  # without loss, whatever it is called
    monkeypatch.chdir(folder)
    (code,) = python_blocks(folder / "README.md")
    exec(code, {})
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    expected = tokenizer.decode(trained.captions[0], skip_special_tokens=True).strip()
    assert capsys.readouterr().out.strip() == expected


def test_the_projector_cards_code_runs(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(export_projector(trained.checkpoint, tmp_path / "projector"))
    (code,) = python_blocks(Path("README.md"))
    names: dict[str, Any] = {}
    exec(code, names)
    projector = load_checkpoint(trained.checkpoint).projector
    features = torch.randn(3, 32)
    assert torch.allclose(names["projector"](features), projector(features), rtol=1e-4, atol=1e-5)


def test_the_serving_pages_code_runs(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = dict.fromkeys(("bleu_1", "bleu_4", "cider", "rouge_l"), 1.0)
    evaluation = {
        "best_epoch": 2,
        "training": "fingerprint",
        "images": {"test": 6},
        "test": scores,
        "controls": {},
    }
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "evaluate.json").write_text(json.dumps(evaluation))
    (tmp_path / "data").mkdir()
    shutil.copy(trained.checkpoint, tmp_path / "data" / "best.safetensors")
    pictures()[0].save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    exporting, captioning = python_blocks(ROOT / "docs" / "serving.md")
    exec(exporting, {})
    assert "1.00" in Path("export/llava/README.md").read_text()
    capsys.readouterr()
    exec(captioning, {})
    assert capsys.readouterr().out.strip()
