"""The machine: device and precision, cores, memory, packages."""

import importlib.metadata
import os
import platform
import shutil
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from pipeline.errors import PipelineError
from pipeline.hardware.device import choose_placement, why_no_cuda
from pipeline.hardware.free_memory import free_memory
from pipeline.params.schema import Params
from pipeline.pretrained.wheels import is_wheel
from vlm.checks.finding import Finding

_PACKAGES = (
    "torch",
    "transformers",
    "bitsandbytes",
    "accelerate",
    "peft",
    "safetensors",
    "h5py",
    "numpy",
    "pillow",
    "huggingface_hub",
    "dvc",
)
_PROJECT = "lightweight-vlm"
_INSTALL = "`make install`, or `pip install -r requirements.lock`"
_LITTLE_MEMORY = 4e9  # bytes; DVC, PyTorch and the sample's models leave little of it


def check_device(params: Params | None) -> Finding:
    """Where a run computes and in which precision, with the reason."""
    import torch

    try:
        placement = choose_placement(params.runtime.device if params else "auto")
    except PipelineError as error:
        return Finding("problem", "device", str(error), "set runtime.device: auto in params.yaml")
    try:
        placement.require_quantization(params.language_model.quantization if params else "none")
    except PipelineError as error:
        return Finding(
            "problem", "device", str(error), "set language_model.quantization: none in params.yaml"
        )
    text = str(placement)
    if placement.device.type == "cuda":
        free, total = torch.cuda.mem_get_info(placement.device)
        text += f", {free / 1e9:.1f} of {total / 1e9:.1f} GB free"
    return Finding("ok", "device", text)


def check_gpu(params: Params | None) -> list[Finding]:
    """An NVIDIA GPU that PyTorch does not reach, or none for a model that needs one."""
    import torch

    if torch.cuda.is_available():
        return []
    if shutil.which("nvidia-smi"):
        text = f"nvidia-smi is here, but PyTorch {torch.__version__} finds no CUDA GPU: {why_no_cuda()}"
        remedy = "a newer driver, or a PyTorch for this one (docs/flickr8k.md, 1)"
        return [Finding("problem", "GPU", text, remedy)]
    name = params.language_model.name if params else ""
    if params is None or is_wheel(name) or Path(name).is_dir() or params.runtime.device == "mps":
        return []
    text = f"there is none, and {name} takes days to train with on a CPU"
    return [Finding("warning", "GPU", text, "a machine with a CUDA GPU, or a smaller language_model.name")]


def check_cores(params: Params | None) -> Finding:
    """CPU cores that this process may use, against the workers asked for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    text = f"{cores} CPU core{'s' if cores > 1 else ''} ({platform.machine()})"
    workers = params.runtime.num_workers if params else 0
    # One more than the cores still helps while files are read.
    if workers > cores + 1:
        remedy = f"set runtime.num_workers: {cores} in params.yaml"
        return Finding("warning", "cores", f"{text}, but runtime.num_workers is {workers}", remedy)
    return Finding("ok", "cores", text)


def check_memory() -> Finding:
    """Memory that is free for a run."""
    free = free_memory()
    if free < _LITTLE_MEMORY:
        remedy = "close other programs, or lower train.batch_size and runtime's batch sizes in params.yaml"
        return Finding("warning", "memory", f"only {free / 1e9:.1f} GB free", remedy)
    return Finding("ok", "memory", f"{free / 1e9:.1f} GB free")


def check_packages(folder: Path) -> list[Finding]:
    """Installed versions against what the project needs and what its lock file pins."""
    installed = {name: _version(name) for name in _PACKAGES}
    needed = _requirements()
    locked = _locked(folder / "requirements.lock")
    findings = []
    for name, version in installed.items():
        wanted = needed.get(name)
        if version is None:
            findings.append(Finding("problem", "packages", f"{name} is not installed", _INSTALL))
        elif wanted is not None and not wanted.specifier.contains(version, prereleases=True):
            text = f"{name} is {version}, but {wanted} is needed"
            findings.append(Finding("problem", "packages", text, _INSTALL))
        elif name in locked and Version(version).public != Version(locked[name]).public:
            text = f"{name} is {version}, tested with {locked[name]}; results may differ"
            findings.append(Finding("warning", "packages", text, _INSTALL))
    versions = ", ".join(f"{name} {version}" for name, version in installed.items() if version)
    return findings or [Finding("ok", "packages", f"Python {platform.python_version()}, {versions}")]


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _requirements() -> dict[str, Requirement]:
    try:
        lines = importlib.metadata.requires(_PROJECT) or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    return {requirement.name: requirement for requirement in map(Requirement, lines)}


def _locked(path: Path) -> dict[str, str]:
    """Versions by name of a file with `name==version` lines; empty where it is not there."""
    if not path.is_file():
        return {}
    pairs = (line.split(";")[0].split("==") for line in path.read_text().splitlines() if "==" in line)
    return {name.strip().lower(): version.split()[0] for name, version in pairs}
