"""Where a run computes and in which precision: decided here alone, with a reason to print."""

import logging
import re
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

    def require_quantization(self, quantization: str) -> None:
        """Raise PipelineError where the device cannot compute with `language_model.quantization`."""
        if quantization == "nf4" and self.device.type == "mps":
            raise PipelineError(
                "language_model.quantization is nf4, which bitsandbytes does not offer on Apple GPUs. "
                "Use none."
            )


def choose_placement(requested: str) -> Placement:
    """Resolve `runtime.device` (`auto`, `cpu`, `cuda`, `cuda:N` or `mps`), and log the choice.

    Raises PipelineError for an unknown device, and for one that is not available.
    """
    placement = _choose(requested)
    logger.info("device: %s", placement)
    return placement


def _choose(requested: str) -> Placement:
    slow = "most CPUs compute bfloat16 far slower"
    if requested == "cpu":
        return Placement(torch.device("cpu"), torch.float32, slow)
    if requested == "auto" and not torch.cuda.is_available():
        return Placement(torch.device("cpu"), torch.float32, f"no CUDA GPU: {why_no_cuda()}; {slow}")
    if requested == "mps":
        if not torch.backends.mps.is_available():
            raise PipelineError(
                "The device mps is not available: PyTorch finds no Apple GPU. Use auto or cpu."
            )
        return Placement(torch.device("mps"), torch.float32, "bfloat16 support on MPS is partial")
    if not re.fullmatch(r"auto|cuda(:\d+)?", requested):
        raise PipelineError(f"Unknown device {requested!r}. Use one of: auto, cpu, cuda, cuda:N, mps.")
    if not torch.cuda.is_available():
        raise PipelineError(
            f"The device {requested} is not available: PyTorch {torch.__version__} finds no CUDA GPU "
            f"({why_no_cuda()}). Use auto or cpu."
        )
    device = torch.device("cuda" if requested == "auto" else requested)
    if device.index is not None and device.index >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise PipelineError(f"The device {requested} does not exist. Use auto, or a number below {count}.")
    name, capability = torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)
    builds = torch.cuda.get_arch_list()
    # Without code for this GPU its first operation would fail.
    if builds and not any(_runs_on(build, capability) for build in builds):
        needed = ".".join(map(str, capability))
        raise PipelineError(
            f"PyTorch {torch.__version__} is not built for {name}: it has {', '.join(builds)}. "
            f"Fix: install a build for capability {needed}, or set runtime.device: cpu."
        )
    # is_bf16_supported() also says yes to slow emulation (T4), so the capability decides.
    if capability >= (8, 0):
        return Placement(device, torch.bfloat16, f"{name} computes bfloat16 natively")
    return Placement(device, torch.float16, f"{name} has no native bfloat16")


def why_no_cuda() -> str:
    """Return what keeps PyTorch from CUDA, in its words: no driver, an old one, a build without CUDA."""
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (AssertionError, RuntimeError) as error:
        return str(error).split(". ")[0].strip().removesuffix(".") or "no reason given"
    return "it lists none"


def _runs_on(build: str, capability: tuple[int, int]) -> bool:
    """Check that code built for `sm_86` or `compute_90` runs on a GPU of this capability.

    Machine code (sm) runs on the same major and no lower minor version, PTX (compute) on any no lower.
    https://docs.nvidia.com/cuda/cuda-compiler-driver-nvcc/ (GPU compilation).
    """
    kind, _, version = build.partition("_")
    digits = version.rstrip("abcdefghijklmnopqrstuvwxyz")  # sm_90a
    target = (int(digits[:-1]), int(digits[-1]))
    return target <= capability and (kind == "compute" or target[0] == capability[0])
