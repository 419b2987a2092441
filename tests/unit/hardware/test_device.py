"""Where a run computes, and in which precision, by what the machine can do."""

from unittest.mock import Mock

import pytest
import torch

from pipeline.hardware.device import Placement, choose_placement
from tests.import_closure import ROOT
from tests.pages import table_rows
from tests.refusals import refusal

HEADER = "| device | capability | computes in | gradients | NF4 |"
# What PyPI's wheels of PyTorch are built for.
CUDA_13 = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]


def pretend_gpu(monkeypatch: pytest.MonkeyPatch, name: str, capability: tuple[int, int]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: name)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: CUDA_13)
    # What PyTorch says of a T4 too, which only emulates it.
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)


def pretend(monkeypatch: pytest.MonkeyPatch, device: str, capability: str) -> Placement:
    """Where a run computes on a machine with such a device."""
    if capability:
        major, minor = capability.split()[0].split(".")  # the least of "8.0 to 9.0"
        pretend_gpu(monkeypatch, device, (int(major), int(minor)))
        return choose_placement("auto")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    return choose_placement("mps" if device.startswith("Apple") else "auto")


@pytest.mark.parametrize("row", table_rows(ROOT / "docs" / "flickr8k.md", HEADER), ids=lambda row: row[0])
def test_each_device_of_the_page_computes_as_the_page_says(
    monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture, row: list[str]
) -> None:
    device, capability, dtype, gradients, nf4 = row
    placement = pretend(monkeypatch, device, capability)
    assert f"device: {placement.device}, {dtype} ({placement.reason})" in log.text
    assert str(placement.dtype) == f"torch.{dtype}"
    assert (placement.dtype == torch.float16) == (gradients == "scaled")
    placement.require_quantization("none")
    if nf4 == "yes":
        placement.require_quantization("nf4")
    else:
        refusal(placement.require_quantization, "nf4", match=r"quantization is nf4.* Use none")


def test_a_run_without_a_gpu_says_what_keeps_it_from_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """An Apple GPU has to be asked for: profiles ask for NF4, which it does not offer."""
    why = RuntimeError("The NVIDIA driver on your system is too old. Please update your GPU driver")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", Mock(side_effect=why))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    reason = "The NVIDIA driver on your system is too old"
    assert str(choose_placement("auto")).startswith(f"cpu, float32 (no CUDA GPU: {reason};")
    refusal(choose_placement, "cuda", match=rf"device cuda .*{reason}")


def test_a_gpu_that_pytorch_has_no_code_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpu(monkeypatch, "Tesla V100", (7, 0))
    refusal(choose_placement, "auto", match=r"not built for Tesla V100.*sm_75.*runtime\.device: cpu")


@pytest.mark.parametrize("capability", [(8, 9), (12, 1), (13, 0)])
def test_code_runs_on_later_gpus_of_its_family_and_ptx_on_all_later_ones(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]
) -> None:
    pretend_gpu(monkeypatch, "a GPU", capability)
    assert choose_placement("auto").device.type == "cuda"


@pytest.mark.parametrize(
    ("device", "allowed"),
    [("mps", "auto or cpu"), ("cuda:3", "below 1"), ("gpu", "auto, cpu, cuda, cuda:N, mps")],
)
def test_an_absent_device_is_refused(monkeypatch: pytest.MonkeyPatch, device: str, allowed: str) -> None:
    pretend_gpu(monkeypatch, "RTX 3060", (8, 6))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    refusal(choose_placement, device, match=rf"{device}.* Use .*{allowed}")
