"""Where a run computes, and in which precision, by what the machine can do."""

import pytest
import torch

from pipeline.device import choose_placement
from pipeline.errors import PipelineError


def pretend_gpu(monkeypatch: pytest.MonkeyPatch, name: str, capability: tuple[int, int]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: name)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    # What PyTorch says of a T4 too, which only emulates it.
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)


def test_a_cpu_computes_in_float32() -> None:
    placement = choose_placement("cpu")
    assert (placement.device.type, placement.dtype) == ("cpu", torch.float32)
    assert "float32 (" in str(placement)


def test_a_gpu_with_native_bfloat16_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpu(monkeypatch, "RTX 3060", (8, 6))
    placement = choose_placement("auto")
    assert (placement.device.type, placement.dtype) == ("cuda", torch.bfloat16)
    assert "RTX 3060" in placement.reason


def test_a_gpu_that_emulates_bfloat16_uses_float16(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpu(monkeypatch, "Tesla T4", (7, 5))
    assert choose_placement("cuda").dtype == torch.float16


def test_auto_without_a_gpu_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_placement("auto").device.type == "cpu"


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(PipelineError, match=r"runtime\.device is cuda, but .* use auto or cpu"):
        choose_placement("cuda")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(PipelineError, match="mps"):
        choose_placement("mps")
    pretend_gpu(monkeypatch, "RTX 3060", (8, 6))
    with pytest.raises(PipelineError, match=r"cuda:3, but there are only 1"):
        choose_placement("cuda:3")


def test_the_choice_is_logged_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        choose_placement("cpu")
    assert "device: cpu, float32 (" in caplog.text
