"""vlm doctor: what is ready, what is a problem, and the remedy of each.

Run: .venv/bin/python -m pytest tests/unit/vlm/test_doctor.py
"""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.params.schema import Limits, Params
from pipeline.pretrained.hub import HubFile
from stages.reruns import with_followers
from tests.doctor_lab import Write, findings, run
from tests.import_closure import ROOT
from tests.tiny_flickr8k import COMMIT, pins_of, save_flickr8k, write_pins
from vlm.checks import machine, project


def git(folder: Path, *args: str) -> None:
    who = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", *who, *args], cwd=folder, check=True, capture_output=True)


def test_a_project_that_is_ready_has_no_problem(folder: Path, write: Write, tiny_params: Params) -> None:
    """With a real DVC repository, in which every stage is still to be run."""
    for name in ("pipeline", "stages"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", folder)
    write(tiny_params)
    git(folder, "init", "-q")
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=folder, check=True)
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "First")
    result = run()
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert not [line for line in lines if line.startswith("problem")]
    for line in (
        "ok       parameters: params.yaml, in no profile",
        "ok       device: cpu, float32 (most CPUs compute bfloat16 far slower)",
        "ok       dataset: scenes (train 16, dev 4, test 6), drawn by prepare",
        "ok       stages: `dvc repro` would run prepare, encode, tokenize, train, evaluate, regions, report",
    ):
        assert line in lines
    assert any(line.startswith("ok       encoder: ") and "is a local folder" in line for line in lines)
    assert any(line.startswith("ok       git: at commit ") for line in lines)


@pytest.mark.usefixtures("folder")
def test_an_empty_folder_has_problems_with_remedies_and_exit_code_1() -> None:
    result = run()
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert "problem  parameters: params.yaml does not exist; run from the project's root" in lines[0]
    for line in lines:
        assert line.startswith(("ok ", "warning ", "problem "))
        assert line.startswith("ok ") != (" -> " in line)
    assert any("in no git repository -> `git init && git add -A" in line for line in lines)
    assert any(line.startswith("problem  stages: there is no dvc.yaml here") for line in lines)


@pytest.mark.usefixtures("folder")
def test_json_has_level_topic_text_and_remedy() -> None:
    result = run("--json")
    assert result.exit_code == 1
    assert all(row.keys() == {"level", "topic", "text", "remedy"} for row in json.loads(result.stdout))


def test_a_dataset_is_counted_or_its_fault_named(folder: Path, write: Write, tiny_params: Params) -> None:
    write(replace(tiny_params, data=replace(tiny_params.data, source="jsonl", root="photos")))
    missing = findings()["dataset"]
    assert missing["level"] == "problem"
    assert "data.root is photos, which does not exist" in missing["text"]
    assert "dvc exp run -S data.root=FOLDER" in missing["remedy"]

    (folder / "photos").mkdir()
    rows = [
        {"image": f"{n}.jpg", "captions": ["a dog", "a cat"], "split": split}
        for n, split in enumerate(["train", "train", "dev", "test"])
    ]
    (folder / "photos" / "captions.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert "0.jpg, 1.jpg, 2.jpg, ...: 4 of 4 images" in findings()["dataset"]["text"]
    for row in rows:
        (folder / "photos" / str(row["image"])).touch()
    found = findings()["dataset"]
    assert found["level"] == "ok"
    assert "train 2 images with 4 captions, dev 1 images with 2 captions, test 1" in found["text"]


def test_nf4_on_an_apple_gpu_is_a_problem(
    write: Write, tiny_params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    write(replace(tiny_params, runtime=replace(tiny_params.runtime, device="mps")))
    found = findings()["device"]
    assert found["level"] == "problem"
    assert "quantization is nf4, which bitsandbytes does not offer on Apple GPUs" in found["text"]
    assert found["remedy"] == "set language_model.quantization: none in params.yaml"


@pytest.mark.parametrize("profile", sorted((ROOT / "profiles").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_profile_can_be_examined(folder: Path, profile: Path) -> None:
    shutil.copytree(ROOT / "profiles", folder / "profiles")
    pins = folder / "pipeline" / "datasets"
    pins.mkdir(parents=True)
    shutil.copy(ROOT / "pipeline" / "datasets" / "flickr8k.json", pins)
    shutil.copy(profile, folder / "params.yaml")
    found = findings()
    assert found["parameters"]["text"] == f"params.yaml is the profile {profile.stem}"
    assert found["dataset"]["text"]


def test_a_dataset_of_the_hub_is_counted_and_what_is_missing_told(
    folder: Path, write: Write, tiny_params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = replace(tiny_params.data, source="hub", root="pins.json", limits=Limits(train=7, dev=None, test=2))
    write(replace(tiny_params, data=data))
    assert "pins.json" in findings()["dataset"]["text"]
    save_flickr8k(folder / "files")
    write_pins(folder / "pins.json", pins_of(folder / "files"))
    offline = findings()["dataset"]
    assert offline["level"] == "problem"
    assert "jxie/flickr8k at 56f58c9 (train 7, dev 3, test 2 images): " in offline["text"]
    assert f"`hf download jxie/flickr8k --repo-type dataset --revision {COMMIT}`" in offline["text"]

    monkeypatch.setattr(project, "ask_for_file", lambda _, file: HubFile(file, 300_000_000, "test" in file))
    found = findings()["dataset"]
    assert (found["level"], found["text"].split(": ")[1]) == ("ok", "prepare downloads 3 files, 0.90 GB")
    monkeypatch.setattr(project, "ask_for_file", lambda _, file: HubFile(file, 300_000_000, True))
    assert findings()["dataset"]["text"].endswith("images): in the hub cache")


def test_a_device_that_is_not_there_is_a_problem(write: Write, tiny_params: Params) -> None:
    write(replace(tiny_params, runtime=replace(tiny_params.runtime, device="cuda:99")))
    found = findings()["device"]
    assert found["level"] == "problem"
    assert found["remedy"] == "set runtime.device: auto in params.yaml"


def test_a_gpu_that_pytorch_does_not_reach_is_a_problem(
    tiny_params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(machine, "why_no_cuda", lambda: "the NVIDIA driver is too old")
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    (found,) = machine.check_gpu(tiny_params)
    assert found.level == "problem"
    assert found.text.endswith("finds no CUDA GPU: the NVIDIA driver is too old")


def test_a_model_of_the_hub_without_a_gpu_is_a_warning(
    tiny_params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    large = replace(tiny_params.language_model, name="org/llama")
    (found,) = machine.check_gpu(replace(tiny_params, language_model=large))
    assert found.level == "warning"
    assert found.text == "there is none, and org/llama takes days to train with on a CPU"
    # The sample and a local folder are meant for what there is.
    assert machine.check_gpu(tiny_params) == []
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert machine.check_gpu(replace(tiny_params, language_model=large)) == []


def test_more_workers_than_cores_and_little_memory_are_warnings(
    tiny_params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = replace(tiny_params, runtime=replace(tiny_params.runtime, num_workers=256))
    assert machine.check_cores(params).level == "warning"
    monkeypatch.setattr(machine, "free_memory", lambda: 1e9)
    assert str(machine.check_memory()).startswith("warning  memory: only 1.0 GB free -> close other programs")
    monkeypatch.setattr(machine, "free_memory", lambda: 64e9)
    assert machine.check_memory().level == "ok"


def test_missing_and_old_packages_are_problems_and_others_warnings(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions: dict[str, str | None] = {
        "torch": "2.0.0",
        "peft": None,
        "h5py": "3.99+local",
        "dvc": "3.67.1+x",
    }
    monkeypatch.setattr(machine, "_version", lambda name: versions.get(name, "999"))
    (folder / "requirements.lock").write_text("h5py==3.16.0\ndvc==3.67.1\nother==1 ; python_version > '3'\n")
    found = {(f.level, f.text.split()[0]) for f in machine.check_packages(folder)}
    assert found == {("problem", "torch"), ("problem", "peft"), ("warning", "h5py")}


def test_stages_that_follow_from_changed_ones_are_listed() -> None:
    stages: dict[str, Any] = {
        "a": {"outs": ["1", {"2": {"cache": False}}]},
        "b": {"deps": ["x"], "outs": ["3"]},
        "c": {"deps": ["2"], "outs": ["4"]},
        "d": {"deps": ["4"]},
    }
    assert with_followers(stages, {"a"}) == ["a", "c", "d"]
    assert with_followers(stages, set()) == []


def test_a_failing_dvc_is_a_warning_with_its_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "dvc.yaml").write_text("stages: {}\n")
    failed = subprocess.CompletedProcess(["dvc"], 1, stdout="", stderr="one\nERROR: no space\nAdvice.\n")
    monkeypatch.setattr(project, "_run", lambda *_: failed)
    found = project.check_stages(folder)
    assert found.level == "warning"
    assert found.text == "`dvc status` failed and said: no space"


@pytest.mark.parametrize("key", ["train: {epochs: 0}", "epoch: 3", "train: ["])
def test_parameters_that_no_stage_accepts_are_to_be_mended_not_overwritten(
    folder: Path, write: Write, tiny_params: Params, key: str
) -> None:
    write(tiny_params)
    path = folder / "params.yaml"
    path.write_text(f"{path.read_text()}\n{key}\n")
    lines = run().stdout.splitlines()
    assert lines[0].startswith("problem  parameters: params.yaml")
    assert "-> mend it; `git diff HEAD params.yaml` shows what was changed" in lines[0]
    assert not any("stages:" in line for line in lines)


def test_a_repository_that_another_dvc_holds_is_no_fault(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "dvc.yaml").write_text("stages: {}\n")
    said = "ERROR: Unable to acquire lock. Most likely another DVC process is running."
    failed = subprocess.CompletedProcess(["dvc"], 1, stdout="", stderr=said)
    monkeypatch.setattr(project, "_run", lambda *_: failed)
    assert project.check_stages(folder).text.startswith("DVC is at work in this repository")


def test_a_run_under_way_is_said_to_be_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "dvc.yaml").write_text("stages: {}\n")
    said = (
        "ERROR: '/x/data/images' is busy, it is being blocked by:\n  (PID 1809): dvc repro\n\n"
        "If there are no processes with such PIDs, you can manually remove '/x/.dvc/tmp/rwlock'."
    )
    failed = subprocess.CompletedProcess(["dvc"], 1, stdout="", stderr=said)
    monkeypatch.setattr(project, "_run", lambda *_: failed)
    found = project.check_stages(folder)
    assert found.text.startswith("DVC is at work (process 1809: dvc repro)")
    assert "wait until it has ended" in str(found.remedy)
