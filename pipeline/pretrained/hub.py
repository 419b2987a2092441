"""Files of the Hugging Face hub, kept in its cache; each way to fail is a sentence that says what to do.

Downloading, resuming, locking and verifying is `huggingface_hub`'s. What is in the cache is not asked for
again, and nothing is told to the hub beyond what a download needs.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import constants, get_token, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    DryRunError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import httpx  # type: ignore[attr-defined]  # the one it uses: httpx or httpx2

from pipeline.errors import PipelineError
from pipeline.files.disk_errors import cannot_write, is_full

_HUB = "https://huggingface.co"
# Without it the library asks the hub for a list of programs that may be using it, also when all is local.
constants.HF_HUB_DISABLE_TELEMETRY = True


@dataclass(frozen=True)
class HubRepository:
    """A repository at a commit (or a branch; None: the newest)."""

    name: str
    revision: str | None
    kind: Literal["model", "dataset"] = "model"

    def __str__(self) -> str:
        return self.name

    @property
    def page(self) -> str:
        """Its address for people."""
        return f"{_HUB}/datasets/{self.name}" if self.kind == "dataset" else f"{_HUB}/{self.name}"

    @property
    def command(self) -> str:
        """The shell command that completes its copy in the cache."""
        kind = " --repo-type dataset" if self.kind == "dataset" else ""
        revision = f" --revision {self.revision}" if self.revision else ""
        return f"hf download {self.name}{kind}{revision}"


@dataclass(frozen=True)
class HubFile:
    """A file of a repository: its size in bytes, and whether it is in the cache."""

    name: str
    size: int
    is_cached: bool


def find_snapshot(repository: HubRepository, patterns: Sequence[str]) -> Path | None:
    """The folder in the cache that holds some of the repository's files of these patterns; None if none does.

    Where the hub's listing is in the cache (`is_listed`), all of them. The hub is not asked, also not whether
    a branch has moved. Raises PipelineError for an impossible name.
    """
    with _explained(repository), contextlib.suppress(LocalEntryNotFoundError):
        return Path(_snapshot(repository, patterns, local_files_only=True))
    return None


def is_listed(folder: Path) -> bool:
    """Whether the hub's listing of this snapshot is in the cache; `huggingface_hub` then compares with it."""
    return (folder.parents[1] / "trees" / f"{folder.name}.json").is_file()


def download_snapshot(repository: HubRepository, patterns: Sequence[str]) -> Path:
    """The folder in the cache that holds the repository's files of these patterns, completed if need be.

    Where the hub cannot be reached and there is no listing either: what is there. Raises PipelineError when
    the hub does not give them.
    """
    with _explained(repository):
        return Path(_snapshot(repository, patterns))


def list_files(repository: HubRepository, patterns: Sequence[str]) -> list[HubFile]:
    """The repository's files of these patterns. Raises PipelineError when the hub does not say."""
    with _explained(repository):
        files = _snapshot(repository, patterns, dry_run=True)
    return [HubFile(file.filename, file.file_size or 0, file.is_cached) for file in files]


def download_file(repository: HubRepository, filename: str) -> Path:
    """One file of a repository, in the cache. Raises PipelineError when the hub does not give it."""
    with _explained(repository):
        return Path(_file(repository, filename))


def ask_for_file(repository: HubRepository, filename: str) -> HubFile:
    """Size and place of a file that may be downloaded; nothing is downloaded.

    Raises PipelineError, as a download would, when the hub does not give it.
    """
    with _explained(repository):
        facts = _file(repository, filename, dry_run=True)
    return HubFile(filename, facts.file_size or 0, facts.is_cached)


def _snapshot(repository: HubRepository, patterns: Sequence[str], **options: Any) -> Any:
    return snapshot_download(
        repository.name,
        repo_type=repository.kind,
        revision=repository.revision,
        allow_patterns=list(patterns),
        **options,
    )


def _file(repository: HubRepository, filename: str, **options: Any) -> Any:
    return hf_hub_download(
        repository.name, filename, repo_type=repository.kind, revision=repository.revision, **options
    )


def forget(path: Path) -> None:
    """Take a damaged file out of the cache, so that the next download replaces it."""
    path.resolve().unlink(missing_ok=True)
    path.unlink(missing_ok=True)


@contextlib.contextmanager
def _explained(repository: HubRepository) -> Iterator[None]:
    """Turn what huggingface_hub raises into a PipelineError."""
    try:
        yield
    except HFValidationError as error:
        raise PipelineError(
            f"{repository.name!r} is neither a folder nor a hub id like org/{repository.kind}."
        ) from error
    # The client of Xet raises ValueError where the hub's answer is no such answer.
    except (OSError, RuntimeError, ValueError, httpx.HTTPError) as error:
        # Behind "not in the cache" and "cannot be looked up" stands why the hub could not be asked.
        caught: BaseException = error
        if isinstance(error, (LocalEntryNotFoundError, DryRunError)) and error.__cause__ is not None:
            caught = error.__cause__
        raise PipelineError(_explain(repository, caught)) from error


def _explain(repository: HubRepository, error: BaseException) -> str:
    name = repository.name
    if isinstance(error, HfHubHTTPError):
        return _explain_answer(repository, error)
    if isinstance(error, FileMetadataError):
        return (
            f"what answers for {name} is no model hub; check HF_ENDPOINT, where it is set, and the network's "
            "proxy, and repeat the command."
        )
    no_network = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError, ConnectionError)
    if isinstance(error, (LocalEntryNotFoundError, DryRunError, *no_network)):
        return unreachable(repository, type(error).__name__)
    if isinstance(error, OSError) and is_full(error):
        cache = Path(constants.HF_HUB_CACHE)
        return f"{cannot_write(cache / name, error)} HF_HOME may name a folder on a larger disk."
    if isinstance(error, OSError) and error.errno is not None:
        return f"{name} cannot be stored in the hub's cache: {' '.join(str(error).split())}"
    # Xet, the hub's way to send large files, fails with errors of Python's own.
    other_way = "" if isinstance(error, httpx.HTTPError) else ", or try it with HF_HUB_DISABLE_XET=1"
    return (
        f"the download of {name} broke off ({type(error).__name__}); repeat the command or run "
        f"`{repository.command}`{other_way}: files that are complete are kept."
    )


def _explain_answer(repository: HubRepository, error: HfHubHTTPError) -> str:
    """The hub answered, and refused."""
    name, page = repository.name, repository.page
    status = error.response.status_code
    if isinstance(error, GatedRepoError) and status == 401:
        return (
            f"{name} is gated: accept its licence at {page}, then run `hf auth login` (or set HF_TOKEN) "
            "and repeat the command."
        )
    if isinstance(error, GatedRepoError):
        return (
            f"{name} is gated: accept its licence at {page} and wait until access is granted to the "
            "account of your token (`hf auth whoami` names it; a fine-grained token must be allowed to "
            "read gated repositories), then repeat the command."
        )
    if isinstance(error, RevisionNotFoundError):
        return f"{name} has no revision {repository.revision}; its commits are at {page}/commits/main."
    if isinstance(error, RemoteEntryNotFoundError):
        tree = f"{page}/tree/{repository.revision or 'main'}"
        return f"{name} lacks a file that is needed at this revision; see {tree}."
    if isinstance(error, RepositoryNotFoundError) or (status == 401 and get_token() is None):
        return (
            f"the hub knows no {repository.kind} {name}, or your token may not see it; check the name at "
            f"{page}, or run `hf auth login`."
        )
    if status == 401:
        return (
            "the hub does not accept your token: run `hf auth login` with one from "
            f"{_HUB}/settings/tokens (HF_TOKEN, where it is set, comes first) and repeat the command."
        )
    if status == 403:
        return (
            f"your token may not read {name}: allow it to at {_HUB}/settings/tokens, or run "
            f"`hf auth login` with another; the page of the {repository.kind} is {page}."
        )
    if status == 429:
        return f"the hub allows no more requests for now (429, {name}); repeat the command in some minutes."
    return (
        f"the hub cannot serve {name} at present (it answers {status}); repeat the command later or run "
        f"`{repository.command}`: files that are complete are kept."
    )


def unreachable(repository: HubRepository, reason: str) -> str:
    """The sentence for a repository that cannot be completed from here."""
    instead = ", or give the path of a local folder." if repository.kind == "model" else "."
    if constants.HF_HUB_OFFLINE:
        return (
            f"{repository.name} is not, or not wholly, in the local cache, and HF_HUB_OFFLINE forbids to "
            f"fetch it; unset it and run `{repository.command}`{instead}"
        )
    return (
        f"{repository.name} is not, or not wholly, in the local cache and the hub cannot be reached "
        f"({reason}); connect to the network and run `{repository.command}`{instead}"
    )
