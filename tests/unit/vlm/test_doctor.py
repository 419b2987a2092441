"""vlm doctor: what is ready, what is a problem, and the remedy of each.

Run: .venv/bin/python -m pytest tests/unit/vlm/test_doctor.py
"""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from pipeline.params.schema import Params
from tests.dataset_makers import make_jsonl
from tests.e2e.conftest import make_project
from tests.import_closure import ROOT
from tests.unit.project import write_dvc_lock
from vlm.checks import machine, project
from vlm.doctor import CheckResult
from vlm.main import main


def run(code: int, *args: str) -> list[str]:
    result = CliRunner().invoke(main, ["doctor", *args])
    assert result.exit_code == code, result.output
    return result.stdout.splitlines()


def test_a_ready_project_is_ok(folder: Path, tiny_params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a real DVC repository, in which every stage is still to be run."""
    monkeypatch.chdir(make_project(folder / "ready", tiny_params).folder)
    lines = run(0)
    for start in (
        "ok       parameters: params.yaml, in no profile",
        "ok       device: cpu, float32 (most CPUs compute bfloat16 far slower)",
        "ok       encoder: ",
        "ok       dataset: scenes (train 16, dev 4, test 6), drawn by prepare",
        "ok       git: at commit ",
        "ok       stages: `dvc repro` would run check, prepare, encode, retrieve, tokenize, train, "
        "evaluate, regions, report",
    ):
        assert [line for line in lines if line.startswith(start)], start


@pytest.mark.usefixtures("folder")
def test_an_empty_folder_has_problems_with_remedies() -> None:
    lines = run(1)
    assert lines[0].startswith("problem  parameters: params.yaml does not exist")
    assert "`cp profiles/sample.yaml params.yaml`" in lines[0]
    for line in lines:
        assert line.startswith(("ok ", "warning ", "problem "))
        assert line.startswith("ok ") != (" -> " in line)
    assert any(line.endswith("in no git repository -> run in the project's folder") for line in lines)
    assert any(line.startswith("problem  stages: there is no dvc.yaml here") for line in lines)
    rows = json.loads("".join(run(1, "--json")))
    assert all(row.keys() == {"level", "topic", "text", "remedy"} for row in rows)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("train: {epochs: 0}", "`git diff HEAD params.yaml`"),
        # DVC says of it only that a character cannot start a token.
        ("extra:\n\tkey: 3", "indent with spaces"),
    ],
)
def test_wrong_parameters_are_to_be_corrected_not_overwritten(folder: Path, text: str, remedy: str) -> None:
    sample = (ROOT / "params.yaml").read_text()
    (folder / "params.yaml").write_text(f"{sample}\n{text}\n")
    lines = run(1)
    assert lines[0].startswith("problem  parameters: params.yaml")
    assert remedy in lines[0]
    assert not any("stages:" in line for line in lines)


# --- the machine --------------------------------------------------------------------------------------


def of_machine(params: Params | None, topic: str) -> list[CheckResult]:
    return [result for result in machine.check_machine(Path(), params) if result.topic == topic]


@pytest.mark.parametrize(
    ("device", "text", "remedy"),
    [("mps", "nf4", "language_model.quantization: none"), ("cuda:99", "cuda:99", "runtime.device: auto")],
)
def test_a_device_that_cannot_be_used_is_a_problem(
    tiny_params: Params, monkeypatch: pytest.MonkeyPatch, device: str, text: str, remedy: str
) -> None:
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    params = replace(tiny_params, runtime=replace(tiny_params.runtime, device=device))
    (result,) = of_machine(params, "device")
    assert result.level == "problem"
    assert text in result.text
    assert result.remedy == f"set {remedy} in params.yaml"


@pytest.mark.parametrize(
    ("name", "has_driver", "level", "text"),
    [
        ("org/llama", False, "warning", "org/llama takes days"),
        ("org/llama", True, "problem", "the NVIDIA driver is too old"),
        # The sample is meant for any machine.
        ("wheel:smollm2-135m", False, "", ""),
    ],
)
def test_a_gpu_that_is_missing_or_not_reached_is_reported(
    tiny_params: Params, monkeypatch: pytest.MonkeyPatch, name: str, has_driver: bool, level: str, text: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(machine, "why_no_cuda", lambda: "the NVIDIA driver is too old")
    monkeypatch.setattr(shutil, "which", lambda _: "/bin/nvidia-smi" if has_driver else None)
    params = replace(tiny_params, language_model=replace(tiny_params.language_model, name=name))
    results = of_machine(params, "GPU")
    assert [result.level for result in results] == ([level] if level else [])
    assert all(text in result.text for result in results)


@pytest.mark.parametrize(("free", "level"), [(1e9, "warning"), (64e9, "ok")])
def test_little_memory_is_a_warning(monkeypatch: pytest.MonkeyPatch, free: float, level: str) -> None:
    monkeypatch.setattr(machine, "free_memory", lambda: free)
    (result,) = of_machine(None, "memory")
    assert (result.level, result.text) == (level, f"{free / 1e9:.1f} GB free")


def test_missing_packages_and_other_versions_are_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = "torch transformers bitsandbytes accelerate safetensors numpy pillow huggingface_hub"
    versions = {**dict.fromkeys(names.split(), "999"), "h5py": "3.99+local", "dvc": "3.67.1+x"}
    installed = [SimpleNamespace(name=name, version=version) for name, version in versions.items()]
    monkeypatch.setattr("importlib.metadata.distributions", lambda: installed)
    (folder / "requirements.lock").write_text("h5py==3.16.0\ndvc==3.67.1\nother==1 ; python_version > '3'\n")
    results = {(result.level, result.text.split()[0]) for result in of_machine(None, "packages")}
    assert results == {("problem", "peft"), ("warning", "h5py")}


# --- the project --------------------------------------------------------------------------------------


def test_a_dataset_is_counted_or_its_fault_named(folder: Path, tiny_params: Params) -> None:
    params = replace(tiny_params, data=replace(tiny_params.data, source="jsonl", root="photos"))
    missing, _ = project.check_dataset(params)
    assert missing.level == "problem"
    assert "photos" in missing.text
    assert "dvc exp run -S data.root=FOLDER" in str(missing.remedy)

    make_jsonl(folder / "photos")
    complete, needs = project.check_dataset(params)
    assert (complete.level, needs.images) == ("ok", 4)
    assert "train 2 images with 4 captions, dev 1 images with 2 captions, test 1" in complete.text


def test_adding_files_to_git_is_proposed_only_in_the_project(folder: Path) -> None:
    """It proposed `git add -A` in any folder, a home folder included."""
    assert "git add" not in str(project.check_git(folder).remedy)
    (folder / "dvc.yaml").touch()
    assert "git add ." in str(project.check_git(folder).remedy)


def test_a_failing_dvc_and_a_run_at_work_are_warnings(folder: Path) -> None:
    """There is no repository of DVC here."""
    (folder / "dvc.yaml").write_text("stages: {}\n")
    failing = project.check_stages(folder)
    write_dvc_lock(folder, os.getpid())
    at_work = project.check_stages(folder)
    assert failing.level == at_work.level == "warning"
    assert "you are not inside of a DVC repository" in failing.text
    assert at_work.text.startswith(f"DVC is at work (process {os.getpid()}: dvc repro)")


# --- the disk -----------------------------------------------------------------------------------------

FEATURE = (16, 1_000_000)  # tokens and width
FEATURES = 30 * 16 * 1_000_000 * 2 / 1e9  # GB of 30 images


def disk(folder: Path, params: Params, *needs: Any, feature: tuple[int, int] | None = FEATURE) -> CheckResult:
    (result,) = machine.check_disk(folder, params, machine.DiskNeeds(*needs), feature)
    return result


def needed(result: CheckResult) -> float:
    """GB, as the line on the disk says."""
    return float(result.text.split("about ")[1].split(" GB needed")[0])


@pytest.mark.parametrize(
    ("share_encoded", "is_prepared", "expected"),
    # Features count three times, images twice: kept work and DVC have copies.
    [(0, False, 3 * FEATURES + 2), (0.5, True, 3 * FEATURES), (1.001, True, 0)],
)
def test_what_is_not_there_yet_counts(
    folder: Path, tiny_params: Params, share_encoded: float, is_prepared: bool, expected: float
) -> None:
    (folder / "data").mkdir()
    if is_prepared:
        (folder / "data" / "images.jsonl").touch()
    with (folder / "data" / "features.h5").open("wb") as file:
        file.truncate(int(share_encoded * FEATURES * 1e9))
    result = disk(folder, tiny_params, 30, 1_000_000_000, [2_000_000_000, 3_000_000_000, 0])
    rest = needed(disk(folder, tiny_params, 0))
    assert needed(result) - rest == pytest.approx(expected + 2 + 3, abs=0.02)


def test_another_disk_has_a_line(folder: Path, tiny_params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == folder.stat().st_dev:
        pytest.skip("needs a second file system at /dev/shm")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(other / "not there yet"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5e9))
    needs = machine.DiskNeeds(3, downloads=[6_000_000_000, None])
    here, cache = machine.check_disk(folder, tiny_params, needs, (16, 32))
    assert (here.level, cache.level) == ("ok", "problem")
    assert cache.text.startswith("5.0 GB free, about 6.00 GB needed for downloads in /dev/shm")
    assert cache.text.endswith("; downloads of unknown size come on top")
    assert "HF_HOME" in str(cache.remedy)


@pytest.mark.parametrize(("gigabytes", "level"), [(1000, "ok"), (3.5, "warning"), (2, "problem")])
def test_too_little_disk_is_a_problem_that_says_how_much_is_needed(
    folder: Path, tiny_params: Params, monkeypatch: pytest.MonkeyPatch, gigabytes: float, level: str
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=gigabytes * 1e9))
    result = disk(folder, tiny_params, 1_000_000, feature=(16, 32))
    assert (result.level, needed(result)) == (level, 3.07)
    assert disk(folder, tiny_params, None).text.endswith("is not known yet")
