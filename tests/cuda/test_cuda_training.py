"""Training on a CUDA GPU: the loss of a CPU to rounding, in each precision, and nothing lost by a stop.

Run: make test-cuda
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.model.checkpoints import load_tensors
from pipeline.params.schema import LoraParams
from tests.cuda.conftest import PRECISIONS, on_gpu
from tests.params_files import with_changes
from tests.tiny_llama import CPU
from tests.unit.training.builders import STEPS, Lab, checkpoint, interrupted_after, losses

# Rounding of a loss in each precision, tiny models.
TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 3e-2}


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("quantization", ["nf4", "none"])
def test_the_loss_is_that_of_a_cpu(lab: Lab, tmp_path: Path, dtype: torch.dtype, quantization: str) -> None:
    lab = replace(lab, params=with_changes(lab.params, language_model={"quantization": quantization}))
    replace(lab, placement=CPU).train(tmp_path / "cpu", epochs=2)
    replace(lab, placement=on_gpu(dtype)).train(tmp_path / "gpu", epochs=2)
    expected = losses(tmp_path / "cpu")
    assert losses(tmp_path / "gpu") == pytest.approx(expected, rel=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_an_interrupted_run_goes_on_from_the_same_state(lab: Lab, tmp_path: Path, dtype: torch.dtype) -> None:
    """Not to the bit: some of a GPU's kernels add up in another order each time."""
    lab = replace(lab, placement=on_gpu(dtype))
    lab.train(tmp_path / "whole")
    with interrupted_after(steps=STEPS + 1):
        lab.train(tmp_path / "resumed")
    lab.train(tmp_path / "resumed")
    assert losses(tmp_path / "resumed") == pytest.approx(losses(tmp_path / "whole"), rel=TOLERANCE[dtype])


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ({"gradient_checkpointing": True}, 1e-5),
        ({"runtime": {"compile": "always"}}, TOLERANCE[torch.bfloat16]),
    ],
    ids=["layers computed twice", "compiled"],
)
def test_both_ways_keep_the_loss(lab: Lab, tmp_path: Path, options: dict[str, Any], tolerance: float) -> None:
    lab.train(tmp_path / "plain", epochs=2)
    lab.train(tmp_path / "other", epochs=2, **options)
    assert losses(tmp_path / "other") == pytest.approx(losses(tmp_path / "plain"), rel=tolerance)


def test_adapters_are_trained_too_and_the_cost_is_that_of_the_gpu(lab: Lab, tmp_path: Path) -> None:
    lab.train(tmp_path, epochs=1, lora=LoraParams(2, 4.0, 0.1, ("q_proj", "v_proj")))
    tensors, _ = load_tensors(checkpoint(tmp_path))
    changed = [tensor for name, tensor in tensors.items() if "lora_B" in name]
    assert changed
    assert all(tensor.any() for tensor in changed)  # they start as zeros
    cost = json.loads((tmp_path / "cost.json").read_text())
    assert cost["device"] == "cuda"
    # What tensors of a tiny model took, not what the process holds.
    assert 0 < cost["peak_memory_mb"] < 100
