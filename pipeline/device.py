"""Where a run computes and in which precision: decided here alone, with a reason to print."""

import logging
from dataclasses import dataclass

import torch

from pipeline.errors import PipelineError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Placement:
    """A device, the type that frozen models compute in there, and why."""

    device: torch.device
    dtype: torch.dtype
    reason: str

    def __str__(self) -> str:
        return f"{self.device}, {str(self.dtype).removeprefix('torch.')} ({self.reason})"

    @property
    def scales_gradients(self) -> bool:
        """Whether gradients are scaled before they are stored: float16's small ones would become zero."""
        return self.dtype == torch.float16

    def require_quantization(self, quantization: str) -> None:
        """PipelineError unless weights can be kept so there (`language_model.quantization`)."""
        if quantization == "nf4" and self.device.type == "mps":
            raise PipelineError(
                "language_model.quantization is nf4, which bitsandbytes does not offer on Apple GPUs; "
                "use none."
            )


def choose_placement(requested: str) -> Placement:
    """Resolve `runtime.device` (`auto`, `cpu`, `cuda`, `cuda:N` or `mps`), and log the choice.

    Raises PipelineError when the device asked for is not there.
    """
    placement = _choose(requested)
    logger.info("device: %s", placement)
    return placement


def _choose(requested: str) -> Placement:
    if requested == "auto":
        requested = "cuda" if torch.cuda.is_available() else "cpu"
    if requested == "cpu":
        return Placement(torch.device("cpu"), torch.float32, "most CPUs compute bfloat16 far slower")
    if requested == "mps":
        if not torch.backends.mps.is_available():
            raise PipelineError("runtime.device is mps, but PyTorch finds no Apple GPU; use auto or cpu.")
        return Placement(torch.device("mps"), torch.float32, "bfloat16 support on MPS is partial")
    if not torch.cuda.is_available():
        raise PipelineError(
            f"runtime.device is {requested}, but PyTorch {torch.__version__} finds no CUDA GPU; "
            "use auto or cpu, or install a CUDA build of torch."
        )
    device = torch.device(requested)
    if device.index is not None and device.index >= torch.cuda.device_count():
        raise PipelineError(
            f"runtime.device is {requested}, but there are only {torch.cuda.device_count()} CUDA GPUs."
        )
    name = torch.cuda.get_device_name(device)
    # is_bf16_supported() also says yes to slow emulation (T4), so the capability decides.
    if torch.cuda.get_device_capability(device) >= (8, 0):
        return Placement(device, torch.bfloat16, f"{name} computes bfloat16 natively")
    return Placement(device, torch.float16, f"{name} has no native bfloat16")
