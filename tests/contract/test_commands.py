"""Commands: each stage explains itself at once, and what the README shows exists."""

import re
import subprocess
import sys

import pytest

from tests.contract.test_flow import STAGES
from tests.import_closure import ROOT
from vlm.main import main as vlm


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("stage", [*STAGES, "summary"])
def test_help_says_what_a_stage_does_with_an_example(stage: str) -> None:
    result = run("-m", f"stages.{stage}", "--help")
    assert result.returncode == 0
    assert f"Example: python -m stages.{stage}" in result.stdout
    if stage in STAGES:
        assert all(word in result.stdout for word in ("Reads", "Writes", "Params"))


@pytest.mark.parametrize("stage", [*STAGES, "summary"])
def test_help_imports_nothing_heavy(stage: str) -> None:
    code = (
        f"import sys, stages.{stage} as s\n"
        "try: s.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'h5py', 'numpy', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    result = run("-c", code)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("command", ["", *vlm.commands])
def test_help_of_vlm_has_an_example_and_imports_nothing_heavy(command: str) -> None:
    code = (
        "import sys; from vlm.main import main\n"
        f"try: main({[command] if command else []} + ['--help'], prog_name='vlm')\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'h5py', 'numpy', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    result = run("-c", code)
    assert result.returncode == 0, result.stderr
    assert f"Example: vlm {command}" in result.stdout


def test_every_file_and_make_target_that_the_readme_names_exists() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^\$ make (\w+)", readme, re.M):
        assert f"\n{target}:" in makefile, target
    for link in re.findall(r"\]\(([^)#:]+)\)", readme):
        assert (ROOT / link).exists(), link
    for module in re.findall(r"python -m (stages\.\w+)", readme):
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), module


def test_every_override_in_readme_and_docs_names_a_parameter() -> None:
    params = (ROOT / "params.yaml").read_text(encoding="utf-8")
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for key in re.findall(r"-S '?([\w.]+)=", page.read_text(encoding="utf-8")):
            section, *rest = key.split(".")
            assert re.search(rf"^{section}:", params, re.M), (page.name, key)
            assert re.search(rf"\b{rest[-1]}:", params), (page.name, key)


def test_ci_runs_the_readmes_test_command() -> None:
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "make test" in (ROOT / "README.md").read_text(encoding="utf-8")
