"""Files of the Hugging Face hub in its cache; each way to fail is a sentence that says what to do.

`huggingface_hub` downloads, resumes, locks and verifies. What is cached is used without a request, and the
hub learns nothing beyond what a download needs.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import DryRunFileInfo, constants, errors, hf_hub_download, snapshot_download
from huggingface_hub.utils import httpx  # type: ignore[attr-defined]  # the one it uses: httpx or httpx2

from pipeline.errors import PipelineError
from pipeline.files.disk_errors import cannot_write

_HUB = "https://huggingface.co"
_LOOKUP_ERRORS = (errors.LocalEntryNotFoundError, errors.DryRunError)
_CONNECTION_ERRORS = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError, ConnectionError)
_CLIENT_METHODS = ("request", "stream")
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
        """Return its address for people."""
        return f"{_HUB}/datasets/{self.name}" if self.kind == "dataset" else f"{_HUB}/{self.name}"

    @property
    def command(self) -> str:
        """Return the shell command that completes its copy in the cache."""
        kind = " --repo-type dataset" if self.kind == "dataset" else ""
        revision = f" --revision {self.revision}" if self.revision else ""
        return f"hf download {self.name}{kind}{revision}"

    @property
    def arguments(self) -> dict[str, Any]:
        """Return what names it in calls of huggingface_hub."""
        return {"repo_id": self.name, "repo_type": self.kind, "revision": self.revision}


def find_snapshot(repository: HubRepository, patterns: Sequence[str]) -> Path | None:
    """Find the repository's folder in the cache without asking the hub, even whether a branch has moved.

    Returns None where files are missing, which is known only if the hub's listing is cached too. Raises
    PipelineError for an impossible name.
    """
    with _explain_hub_errors(repository), contextlib.suppress(errors.LocalEntryNotFoundError):
        return Path(
            snapshot_download(**repository.arguments, allow_patterns=[*patterns], local_files_only=True)
        )
    return None


def is_listed(folder: Path) -> bool:
    """Check that the hub's listing of a snapshot is cached: then huggingface_hub knows what is missing."""
    return (folder.parents[1] / "trees" / f"{folder.name}.json").is_file()


def download_snapshot(repository: HubRepository, patterns: Sequence[str]) -> Path:
    """Complete the repository's folder in the cache, and return it.

    Without a connection and a listing, returns what is cached. Raises PipelineError when the hub refuses.
    """
    with _explain_hub_errors(repository):
        return Path(snapshot_download(**repository.arguments, allow_patterns=[*patterns]))


def list_files(repository: HubRepository, patterns: Sequence[str]) -> list[DryRunFileInfo]:
    """List the repository's files of these patterns. Raises PipelineError when the hub refuses."""
    with _explain_hub_errors(repository):
        found: list[DryRunFileInfo]
        found = snapshot_download(**repository.arguments, allow_patterns=[*patterns], dry_run=True)
    return found


def download_file(repository: HubRepository, filename: str) -> Path:
    """Download one file into the cache. Raises PipelineError when the hub refuses."""
    with _explain_hub_errors(repository):
        return Path(hf_hub_download(**repository.arguments, filename=filename))


def ask_for_file(repository: HubRepository, filename: str) -> DryRunFileInfo:
    """Ask for a file's size without downloading it. Raises PipelineError where a download would."""
    with _explain_hub_errors(repository):
        found: DryRunFileInfo = hf_hub_download(**repository.arguments, filename=filename, dry_run=True)
    return found


def forget(path: Path) -> None:
    """Delete a damaged file from the cache, so that the next download replaces it."""
    path.resolve().unlink(missing_ok=True)
    path.unlink(missing_ok=True)


@contextlib.contextmanager
def _explain_hub_errors(repository: HubRepository) -> Iterator[None]:
    """Turn what huggingface_hub raises into a PipelineError."""
    try:
        yield
    # The client of Xet raises ValueError for an answer that it cannot read.
    except (OSError, RuntimeError, ValueError, AttributeError, httpx.HTTPError) as error:
        # `get_session` returns None to a thread while another one closes the client after a lost connection.
        if isinstance(error, AttributeError) and not (error.obj is None and error.name in _CLIENT_METHODS):
            raise
        # The cause of "not in the cache" says why the hub could not be asked.
        cause = error.__cause__ if isinstance(error, _LOOKUP_ERRORS) else None
        raise PipelineError(_explain(repository, cause or error)) from error


def _explain(repository: HubRepository, error: BaseException) -> str:
    name = repository.name
    if isinstance(error, errors.HFValidationError):
        return f"{name!r} is not a folder or a hub id like org/{repository.kind}."
    if isinstance(error, errors.HfHubHTTPError):
        return _explain_refusal(repository, error)
    if isinstance(error, errors.FileMetadataError):
        return f"What answers for {name} is not a model hub. Fix: check HF_ENDPOINT and the network's proxy."
    if isinstance(error, _LOOKUP_ERRORS + _CONNECTION_ERRORS):
        reason = f"the hub cannot be reached ({type(error).__name__})"
        return incomplete(repository, "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else reason)
    if isinstance(error, OSError) and error.errno is not None:
        place = cannot_write(Path(constants.HF_HUB_CACHE) / name, error)
        return f"{place} HF_HOME can name another folder."
    # Xet, the hub's way to send large files, raises errors of Python itself.
    xet = "" if isinstance(error, httpx.HTTPError) else ", if need be with HF_HUB_DISABLE_XET=1"
    return (
        f"The download of {name} broke off ({type(error).__name__}). Fix: repeat the command, or run "
        f"`{repository.command}`{xet}; complete files are kept."
    )


def _explain_refusal(repository: HubRepository, error: errors.HfHubHTTPError) -> str:
    """Explain an answer of the hub that is a refusal."""
    name, page, status = repository.name, repository.page, error.response.status_code
    if isinstance(error, errors.GatedRepoError):
        return (
            f"{name} is gated. Fix: accept its license at {page}, wait for access, run `hf auth login` (or "
            "set HF_TOKEN) and repeat the command; `hf auth whoami` names the account, and a fine-grained "
            "token must be allowed to read gated repositories."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{name} has no revision {repository.revision}; its commits are at {page}/commits/main."
    if isinstance(error, errors.RemoteEntryNotFoundError):
        tree = f"{page}/tree/{repository.revision or 'main'}"
        return f"{name} lacks a file that is needed at this revision; its files are at {tree}."
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 403):
        return (
            f"The hub knows no {repository.kind} {name}, or your token may not read it. Fix: check the name "
            f"at {page} and the token at {_HUB}/settings/tokens, or run `hf auth login` with another "
            "(HF_TOKEN, where set, comes first)."
        )
    return (
        f"The hub cannot serve {name} at present (it answers {status}). Fix: repeat the command later, or "
        f"run `{repository.command}`; complete files are kept."
    )


def incomplete(repository: HubRepository, reason: str) -> str:
    """Explain that a repository is not complete in the cache and cannot be completed from here."""
    instead = ", or give a local folder" if repository.kind == "model" else ""
    offline = "unset HF_HUB_OFFLINE" if constants.HF_HUB_OFFLINE else "connect to the network"
    return (
        f"{repository.name} is not complete in the hub's cache, and {reason}. Fix: {offline} and run "
        f"`{repository.command}`{instead}."
    )
