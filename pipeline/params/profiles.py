"""Profiles: complete params files that can be put in the place of params.yaml, never over unsaved work."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.files.json_files import write_atomic
from pipeline.params.loader import load_params
from pipeline.params.schema import Params


@dataclass(frozen=True)
class Profile:
    """A params file by its name, and what its first comment line says of it."""

    name: str
    path: Path
    summary: str


def list_profiles(folder: Path) -> list[Profile]:
    """The profiles of a folder, by name. Raises PipelineError when there are none."""
    paths = sorted(folder.glob("*.yaml"), key=lambda path: path.stem)  # a name before its variants
    found = [Profile(path.stem, path, _first_comment(path)) for path in paths]
    if not found:
        raise PipelineError(f"{folder} holds no profiles; run from the project's root, where they lie.")
    return found


def current_profile(params: Path, profiles: list[Profile]) -> Profile | None:
    """The profile that `params` is a copy of, byte for byte."""
    content = params.read_bytes() if params.is_file() else None
    return next((profile for profile in profiles if profile.path.read_bytes() == content), None)


def use_profile(name: str, params: Path, folder: Path, force: bool = False) -> list[str]:
    """Put the profile `folder/NAME.yaml` in the place of `params`.

    Args:
        name: one of the folder's profiles.
        params: the file to replace, atomically.
        folder: where the profiles lie.
        force: replace changes of `params` that are in no profile and not committed.

    Returns:
        What is other than before: a line each for data, encoder and language model; empty if nothing is.

    Raises:
        PipelineError: for an unknown or faulty profile, and for unsaved changes without `force`.
    """
    profiles = list_profiles(folder)
    chosen = next((profile for profile in profiles if profile.name == name), None)
    if chosen is None:
        names = ", ".join(profile.name for profile in profiles)
        raise PipelineError(f"there is no profile {name!r:.60}; allowed: {names}.")
    after = load_params(chosen.path)
    is_saved = not params.exists() or current_profile(params, profiles) is not None or _is_committed(params)
    if not force and not is_saved:
        raise PipelineError(
            f"{params} has changes that are in no profile and not committed; keep them with "
            f'`git commit -m "My parameters" {params}` or as a file in {folder}/, or drop them with --force.'
        )
    before = _load_or_none(params)
    write_atomic(params, chosen.path.read_bytes())
    return _differences(before, after)


def _first_comment(path: Path) -> str:
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("#"):
            return line.removeprefix("#").strip()
        if line.strip():
            break
    return ""


def _is_committed(params: Path) -> bool:
    """Whether git's last commit holds the very bytes of the file."""
    try:
        shown = subprocess.run(
            ["git", "show", f"HEAD:./{params.name}"], cwd=params.parent, capture_output=True, check=False
        )
    except OSError:  # no git
        return False
    return shown.returncode == 0 and shown.stdout == params.read_bytes()


def _load_or_none(path: Path) -> Params | None:
    try:
        return load_params(path)
    except PipelineError:
        return None


def _differences(before: Params | None, after: Params) -> list[str]:
    old = _facts(before) if before else {}
    return [
        f"{label}: {old[label]} -> {fact}" if label in old else f"{label}: {fact}"
        for label, fact in _facts(after).items()
        if old.get(label) != fact
    ]


def _facts(params: Params) -> dict[str, str]:
    encoder, language = params.encoder, params.language_model
    grid = f" on a {encoder.grid} x {encoder.grid} grid" if encoder.grid else ""
    return {
        "data": f"{params.data.source} in {params.data.root}",
        "encoder": f"{encoder.name}, layer {encoder.layer}, {encoder.tokens}{grid}",
        "language model": f"{language.name} ({language.quantization})",
    }
