"""The machine: device and precision, memory, disk."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from pipeline.errors import PipelineError
from pipeline.hardware.device import choose_placement, why_no_cuda
from pipeline.hardware.memory import free_memory
from pipeline.params.schema import Params
from pipeline.pretrained.wheels import is_wheel
from vlm.doctor import CheckResult

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


def check_machine(params: Params | None) -> Iterator[CheckResult]:
    """Check the machine, for the run that `params` describes."""
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


def check_disk(
    folder: Path, params: Params, needs: DiskNeeds, feature: tuple[int, int] | None
) -> CheckResult:
    """Compare free space with what a run from the start takes: downloads, images, features, checkpoints.

    Args:
        folder: the project's.
        params: of the run.
        needs: what its dataset and its models take.
        feature: tokens and width of an image's features; None: not known.
    """
    free = shutil.disk_usage(folder).free
    if feature is None or needs.images is None:
        return CheckResult("ok", "disk", f"{free / 1e9:.1f} GB free; what the run needs is not known yet")
    features = needs.images * feature[0] * feature[1] * 2  # float16
    projector = (feature[1] + _LANGUAGE_WIDTH) * params.projector.hidden_size * 4  # float32
    downloads = sum(size for size in needs.downloads if size is not None)
    # Images twice (DVC's copy), features three times (kept work too), each epoch's checkpoint twice; the
    # training state has weights, average and moments.
    written = 2 * needs.unpacked + 3 * features + projector * (2 * params.train.epochs + 4)
    more = f", {downloads / 1e9:.2f} GB of it downloads" if downloads else ""
    more += "; downloads of unknown size come on top" if None in needs.downloads else ""
    taken = written + downloads
    text = f"{free / 1e9:.1f} GB free, a run from the start takes about {taken / 1e9:.2f} GB{more}"
    if free >= taken + _LITTLE_DISK:
        return CheckResult("ok", "disk", text)
    remedy = (
        "free some space, set HF_HOME to another disk, or `dvc config cache.type reflink,hardlink,symlink`"
    )
    return CheckResult("warning", "disk", text, remedy)
