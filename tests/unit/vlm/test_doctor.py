"""vlm doctor: what is ready, what is a problem, and the remedy of each.

Run: .venv/bin/python -m pytest tests/unit/vlm/test_doctor.py
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from pipeline.params.schema import Limits, Params
from pipeline.pretrained.hub import HubFile
from tests.import_closure import ROOT
from tests.params_files import write_params
from tests.tiny_flickr8k import COMMIT, pins_of, save_flickr8k, write_pins
from vlm.checks import machine, project
from vlm.doctor import CheckResult
from vlm.main import main


def run(code: int, *args: str) -> list[str]:
    result = CliRunner().invoke(main, ["doctor", *args])
    assert result.exit_code == code, result.output
    return result.stdout.splitlines()


def git(folder: Path, *args: str) -> None:
    who = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", *who, *args], cwd=folder, check=True, capture_output=True)


def test_a_project_that_is_ready_has_no_problem(folder: Path, tiny_params: Params) -> None:
    """With a real DVC repository, in which every stage is still to be run."""
    for name in ("pipeline", "stages"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", folder)
    write_params(folder / "params.yaml", tiny_params)
    git(folder, "init", "-q")
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=folder, check=True)
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "First")
    lines = run(0)
    for start in (
        "ok       parameters: params.yaml, in no profile",
        "ok       device: cpu, float32 (most CPUs compute bfloat16 far slower)",
        "ok       encoder: ",
        "ok       dataset: scenes (train 16, dev 4, test 6), drawn by prepare",
        "ok       git: at commit ",
        "ok       stages: `dvc repro` would run prepare, ",
    ):
        assert [line for line in lines if line.startswith(start)], start
    assert all(
        stage in lines[-1] for stage in ("encode", "tokenize", "train", "evaluate", "regions", "report")
    )


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
        *((text, "`git diff HEAD params.yaml`") for text in ("train: {epochs: 0}", "epoch: 3", "train: [")),
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


@pytest.mark.parametrize("profile", sorted((ROOT / "profiles").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_profile_can_be_checked(folder: Path, profile: Path) -> None:
    shutil.copytree(ROOT / "profiles", folder / "profiles")
    pinned = "pipeline/datasets/pinned"
    shutil.copytree(ROOT / pinned, folder / pinned)
    shutil.copy(profile, folder / "params.yaml")
    lines = run(1)
    assert lines[0] == f"ok       parameters: params.yaml is the profile {profile.stem}"
    assert any(" dataset: " in line for line in lines)


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
    ("name", "has_gpu", "has_driver", "expected"),
    [
        ("org/llama", False, False, [("warning", "org/llama takes days")]),
        ("org/llama", False, True, [("problem", "the NVIDIA driver is too old")]),
        ("org/llama", True, True, []),
        # The sample and a local folder are meant for any machine.
        ("wheel:smollm2-135m", False, False, []),
        (".", False, False, []),
    ],
)
def test_a_gpu_that_is_missing_or_not_reached_is_reported(
    tiny_params: Params,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    has_gpu: bool,
    has_driver: bool,
    expected: list[tuple[str, str]],
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: has_gpu)
    monkeypatch.setattr(machine, "why_no_cuda", lambda: "the NVIDIA driver is too old")
    monkeypatch.setattr(shutil, "which", lambda _: "/bin/nvidia-smi" if has_driver else None)
    params = replace(tiny_params, language_model=replace(tiny_params.language_model, name=name))
    results = of_machine(params, "GPU")
    assert [result.level for result in results] == [level for level, _ in expected]
    assert all(text in result.text for result, (_, text) in zip(results, expected, strict=True))


@pytest.mark.parametrize(("free", "level"), [(1e9, "warning"), (64e9, "ok")])
def test_little_memory_is_a_warning(monkeypatch: pytest.MonkeyPatch, free: float, level: str) -> None:
    monkeypatch.setattr(machine, "free_memory", lambda: free)
    (result,) = of_machine(None, "memory")
    assert (result.level, result.text) == (level, f"{free / 1e9:.1f} GB free")


def test_missing_packages_are_problems_and_other_versions_warnings(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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

    (folder / "photos").mkdir()
    rows = [
        {"image": f"{split}.jpg", "captions": ["a", "b"], "split": split}
        for split in ("train", "dev", "test")
    ]
    (folder / "photos" / "captions.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    for row in rows:
        (folder / "photos" / str(row["image"])).touch()
    complete, needs = project.check_dataset(params)
    assert (complete.level, needs.images) == ("ok", 3)
    assert "train 1 images with 2 captions, dev 1 images with 2 captions, test 1" in complete.text


def test_a_dataset_of_the_hub_is_counted_and_what_is_missing_told(
    folder: Path, tiny_params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = replace(tiny_params.data, source="hub", root=".", pins="pins.json", limits=Limits(7, None, 2))
    params = replace(tiny_params, data=data)
    assert "pins.json" in project.check_dataset(params)[0].text
    save_flickr8k(folder / "files")
    write_pins(folder / "pins.json", pins_of(folder / "files"))
    offline, _ = project.check_dataset(params)
    assert offline.level == "problem"
    assert "jxie/flickr8k at 56f58c9 (train 7, dev 3, test 2 images): " in offline.text
    assert f"`hf download jxie/flickr8k --repo-type dataset --revision {COMMIT}`" in offline.text

    monkeypatch.setattr(project, "ask_for_file", lambda _, file: HubFile(file, 300_000_000, "test" in file))
    available, needs = project.check_dataset(params)
    assert (available.level, available.text.split(": ")[1]) == ("ok", "prepare downloads 3 files, 0.90 GB")
    assert needs.downloads == [900_000_000]


def test_adding_files_to_git_is_proposed_only_in_the_project(folder: Path) -> None:
    """It proposed `git add -A` in any folder, a home folder included."""
    assert "git add" not in str(project.check_git(folder).remedy)
    (folder / "dvc.yaml").touch()
    assert "git add ." in str(project.check_git(folder).remedy)


def test_a_failing_dvc_is_a_warning_with_its_error(folder: Path) -> None:
    """There is no repository of DVC here."""
    (folder / "dvc.yaml").write_text("stages: {}\n")
    result = project.check_stages(folder)
    assert result.level == "warning"
    assert "you are not inside of a DVC repository" in result.text


def test_a_run_at_work_is_said_to_be_one(folder: Path) -> None:
    (folder / "dvc.yaml").write_text("stages: {}\n")
    (folder / ".dvc" / "tmp").mkdir(parents=True)
    locks = {"write": {"data": {"pid": os.getpid(), "cmd": "dvc repro"}}, "read": {}}
    (folder / ".dvc" / "tmp" / "rwlock").write_text(json.dumps(locks))
    result = project.check_stages(folder)
    assert result.level == "warning"
    assert result.text.startswith(f"DVC is at work (process {os.getpid()}: dvc repro)")


# --- the disk -----------------------------------------------------------------------------------------

FEATURE = (16, 32)  # tokens and width


def disk(folder: Path, params: Params, *needs: Any, feature: tuple[int, int] | None = FEATURE) -> CheckResult:
    (result,) = machine.check_disk(folder, params, machine.DiskNeeds(*needs), feature)
    return result


def needed(result: CheckResult) -> float:
    """GB, as the line on the disk says."""
    return float(result.text.split("about ")[1].split(" GB needed")[0])


@pytest.mark.parametrize(("bytes_there", "counted"), [(0, 3), (0.5, 3), (1.001, 0), (2, 3)])
def test_features_are_counted_three_times_and_not_where_they_are_there(
    folder: Path, tiny_params: Params, bytes_there: float, counted: int
) -> None:
    size = 30 * 16 * 1_000_000 * 2
    (folder / "data").mkdir()
    with (folder / "data" / "features.h5").open("wb") as file:
        file.truncate(int(bytes_there * size))
    result = disk(folder, tiny_params, 30, feature=(16, 1_000_000))
    rest = needed(disk(folder, tiny_params, 0, feature=(16, 1_000_000)))
    assert needed(result) - rest == pytest.approx(counted * size / 1e9, abs=0.02)


@pytest.mark.parametrize(("is_prepared", "unpacked"), [(False, 2), (True, 0)])
def test_downloads_and_unpacked_images_are_counted(
    folder: Path, tiny_params: Params, is_prepared: bool, unpacked: int
) -> None:
    """Images count twice: DVC keeps a copy."""
    (folder / "data").mkdir()
    if is_prepared:
        (folder / "data" / "images.jsonl").touch()
    result = disk(folder, tiny_params, 3, 1_000_000_000, [2_000_000_000, 3_000_000_000, 0])
    rest = needed(disk(folder, tiny_params, 3))
    assert needed(result) - rest == pytest.approx(unpacked + 2 + 3, abs=0.02)


def test_a_cache_on_another_disk_has_a_separate_line(
    folder: Path, tiny_params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == folder.stat().st_dev:
        pytest.skip("needs a second file system at /dev/shm")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(other / "not there yet"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5e9))
    needs = machine.DiskNeeds(3, downloads=[6_000_000_000, None])
    here, cache = machine.check_disk(folder, tiny_params, needs, FEATURE)
    assert (here.level, cache.level) == ("ok", "problem")
    assert cache.text.startswith("5.0 GB free, about 6.00 GB needed for downloads in /dev/shm")
    assert cache.text.endswith("; downloads of unknown size come on top")
    assert "HF_HOME" in str(cache.remedy)


@pytest.mark.parametrize(("gigabytes", "level"), [(1000, "ok"), (3.5, "warning"), (2, "problem")])
def test_too_little_disk_is_a_problem_that_says_how_much_is_needed(
    folder: Path, tiny_params: Params, monkeypatch: pytest.MonkeyPatch, gigabytes: float, level: str
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=gigabytes * 1e9))
    result = disk(folder, tiny_params, 1_000_000)
    assert (result.level, needed(result)) == (level, 3.07)


@pytest.mark.parametrize(("images", "feature"), [(None, FEATURE), (3, None)])
def test_a_run_of_unknown_size_is_said_to_be_one(
    folder: Path, tiny_params: Params, images: int | None, feature: tuple[int, int] | None
) -> None:
    assert disk(folder, tiny_params, images, feature=feature).text.endswith("is not known yet")
