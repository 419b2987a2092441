"""The machine: device and precision, memory, packages, disk."""

import importlib.metadata
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from huggingface_hub import constants
from packaging.version import Version

from pipeline.errors import PipelineError
from pipeline.hardware.device import choose_placement, why_no_cuda
from pipeline.hardware.memory import free_memory
from pipeline.params.schema import Params
from pipeline.pretrained.wheels import is_wheel
from vlm.doctor import CheckResult

_PACKAGES = """torch transformers bitsandbytes accelerate peft safetensors h5py numpy pillow huggingface_hub
    dvc""".split()  # noqa: SIM905
_LITTLE_MEMORY = 4e9  # bytes; DVC, PyTorch and the sample's models leave little of it
_LITTLE_DISK = 1e9  # bytes that ought to stay free
_LANGUAGE_WIDTH = 2048  # D_l of Llama-3.2-1B; another width changes the estimate little


@dataclass
class DiskNeeds:
    """What a run adds to the disk for its dataset.

    Attributes:
        images: how many there are; None: not known.
        unpacked: bytes of images that `prepare` writes.
        downloads: bytes of each download; None: not known.
    """

    images: int | None = None
    unpacked: int = 0
    downloads: list[int | None] = field(default_factory=list)


def check_machine(folder: Path, params: Params | None) -> Iterator[CheckResult]:
    """Check the machine, for the run that `params` describes, and the project's packages."""
    yield _check_device(params)
    name = params.language_model.name if params and params.runtime.device != "mps" else ""
    if torch.cuda.is_available():
        pass
    elif shutil.which("nvidia-smi"):
        text = f"PyTorch {torch.__version__} finds no CUDA GPU, but nvidia-smi exists: {why_no_cuda()}"
        remedy = "install a newer driver, or a PyTorch for this one (docs/flickr8k.md, 1)"
        yield CheckResult("problem", "GPU", text, remedy)
    elif name and not is_wheel(name) and not Path(name).is_dir():
        text = f"no GPU, and training with {name} takes days on a CPU"
        remedy = "use a machine with a CUDA GPU, or a smaller language_model.name"
        yield CheckResult("warning", "GPU", text, remedy)
    text = f"{free_memory() / 1e9:.1f} GB free"
    if free_memory() < _LITTLE_MEMORY:
        remedy = "close other programs, or lower train.batch_size and runtime's batch sizes in params.yaml"
        yield CheckResult("warning", "memory", text, remedy)
    else:
        yield CheckResult("ok", "memory", text)
    yield from _check_packages(folder / "requirements.lock")


def _check_device(params: Params | None) -> CheckResult:
    """Say where a run computes and in which precision, with the reason."""
    remedy = "set runtime.device: auto in params.yaml"
    try:
        placement = choose_placement(params.runtime.device if params else "auto")
        remedy = "set language_model.quantization: none in params.yaml"
        placement.require_quantization(params.language_model.quantization if params else "none")
    except PipelineError as error:
        return CheckResult("problem", "device", str(error), remedy)
    text = str(placement)
    if placement.device.type == "cuda":
        free, total = torch.cuda.mem_get_info(placement.device)
        text += f", {free / 1e9:.1f} of {total / 1e9:.1f} GB free"
    return CheckResult("ok", "device", text)


def _check_packages(lock: Path) -> list[CheckResult]:
    """Compare the installed versions with those that the lock file pins."""
    installed = {package.name.lower(): package.version for package in importlib.metadata.distributions()}
    lines = lock.read_text().splitlines() if lock.is_file() else []
    pinned = dict(line.split(";")[0].split()[0].lower().split("==") for line in lines if "==" in line)
    results, remedy = [], "`make install`, or `pip install -r requirements.lock`"
    for name in _PACKAGES:
        version = installed.get(name)
        if version is None:
            results.append(CheckResult("problem", "packages", f"{name} is not installed", remedy))
        elif name in pinned and Version(version).public != Version(pinned[name]).public:
            text = f"{name} is {version}, tested with {pinned[name]}; results may differ"
            results.append(CheckResult("warning", "packages", text, remedy))
    versions = [
        f"Python {platform.python_version()}",
        *(f"{name} {installed.get(name)}" for name in _PACKAGES),
    ]
    return results or [CheckResult("ok", "packages", ", ".join(versions))]


def check_disk(
    folder: Path, params: Params, needs: DiskNeeds, feature: tuple[int, int] | None
) -> Iterator[CheckResult]:
    """Compare free space with what the run still needs, on each disk that it uses.

    Args:
        folder: the project's.
        params: of the run.
        needs: what its dataset and its models take.
        feature: tokens and width of an image's features; None: not known.
    """
    if feature is None or needs.images is None:
        free = shutil.disk_usage(folder).free / 1e9
        yield CheckResult("ok", "disk", f"{free:.1f} GB free; what the run needs is not known yet")
        return
    store = folder / "data" / "features.h5"
    features = needs.images * feature[0] * feature[1] * 2  # float16
    # A store of that size holds them already; it is not opened here.
    is_encoded = store.is_file() and features <= store.stat().st_size <= 1.1 * features + 1e6
    unpacked = 0 if (folder / "data" / "images.jsonl").is_file() else needs.unpacked
    projector = (feature[1] + _LANGUAGE_WIDTH) * params.projector.hidden_size * 4  # float32
    # Images twice (DVC's copy), features three times (kept work too), each epoch's checkpoint twice; the
    # training state has weights, average and moments.
    written = 2 * unpacked + (0 if is_encoded else 3 * features) + projector * (2 * params.train.epochs + 4)
    downloads = sum(size for size in needs.downloads if size is not None)
    what = f" for {'images, ' if unpacked else ''}features and checkpoints"
    more = "; downloads of unknown size come on top" if None in needs.downloads else ""
    save = "free some space, or save a copy of the outputs: `dvc config cache.type reflink,hardlink,symlink`"
    cache = Path(constants.HF_HUB_CACHE)
    cache = next(path for path in (cache, *cache.parents) if path.is_dir())
    if not (downloads or more) or cache.stat().st_dev == folder.stat().st_dev:
        also = f", {downloads / 1e9:.2f} GB of it for downloads" if downloads else what
        yield _compare(folder, written + downloads, f"{also}{more}", save)
    else:
        yield _compare(folder, written, what, save)
        move = "free some space there, or set HF_HOME to a folder on another disk"
        yield _compare(cache, downloads, f" for downloads in {cache}{more}", move)


def _compare(folder: Path, needed: float, what: str, remedy: str) -> CheckResult:
    free = shutil.disk_usage(folder).free
    text = f"{free / 1e9:.1f} GB free, about {needed / 1e9:.2f} GB needed{what}"
    if free >= needed + _LITTLE_DISK:
        return CheckResult("ok", "disk", text)
    return CheckResult("problem" if free < needed else "warning", "disk", text, remedy)
