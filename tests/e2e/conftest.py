"""A project in a temporary git repository, run by the real DVC on tiny models."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.params.schema import Params
from tests.import_closure import ROOT
from tests.params_files import write_params

_COPIED = (
    "pipeline",
    "stages",
    "vlm",
    "profiles",
    "dvc.yaml",
    ".gitignore",
    ".dvcignore",
    ".dvc",
    "data/.gitignore",
)


class Project:
    """A copy of the project with tiny parameters; `run` carries out a command in it.

    Attributes:
        environment: the variables of its commands.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(folder.parent / "dvc-site"),
            "DVC_GLOBAL_CONFIG_DIR": str(folder.parent / "dvc-global"),
            "HF_HUB_OFFLINE": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            **{f"GIT_{role}_NAME": "test" for role in ("AUTHOR", "COMMITTER")},
            **{f"GIT_{role}_EMAIL": "test@example.org" for role in ("AUTHOR", "COMMITTER")},
        }

    def run(self, *command: str, code: int = 0) -> str:
        """Output (stdout and stderr) of a command that must exit with `code`."""
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        result = subprocess.run(
            command, cwd=self.folder, env=self.environment, text=True, timeout=600, check=False, **pipes
        )
        assert result.returncode == code, result.stdout
        return str(result.stdout)

    def stage(self, name: str, code: int = 0) -> str:
        """Output of a stage run by hand."""
        return self.run(sys.executable, "-m", f"stages.{name}", code=code)

    def outputs(self) -> dict[str, bytes]:
        """The files that stages left, by path."""
        files = [path for name in ("data", "metrics", "plots") for path in (self.folder / name).rglob("*")]
        return {
            path.relative_to(self.folder).as_posix(): path.read_bytes() for path in files if path.is_file()
        }

    def commit(self, message: str) -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "-m", message)


def make_project(folder: Path, params: Params) -> Project:
    """A committed git repository with the project's code and `params`."""
    folder.mkdir(parents=True)
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            ignore = shutil.ignore_patterns("__pycache__", "tmp", "cache")
            shutil.copytree(source, folder / name, ignore=ignore)
        else:
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copy(source, folder / name)
    project = Project(folder)
    write_params(folder / "params.yaml", params)
    project.run("git", "init", "-q")
    project.commit("project")
    return project


def stages_run(output: str) -> set[str]:
    """The stages that DVC says it ran, `check` aside, which runs after every change of params.yaml."""
    return set(re.findall(r"Running stage '(\w+)'", output)) - {"check"}


@pytest.fixture
def project(tmp_path: Path, tiny_params: Params) -> Project:
    """A project in which nothing was run yet."""
    return make_project(tmp_path / "project", tiny_params)
