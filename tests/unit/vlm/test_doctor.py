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

from pipeline.params.schema import Limits, Params
from pipeline.pretrained.hub import HubFile
from tests.import_closure import ROOT
from tests.tiny_flickr8k import COMMIT, pins_of, save_flickr8k, write_pins
from tests.unit.vlm.doctor_runner import Write, result, results, run
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
    found = run()
    assert found.exit_code == 0, found.output
    lines = found.stdout.splitlines()
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
    found = run()
    assert found.exit_code == 1
    lines = found.stdout.splitlines()
    assert (
        "problem  parameters: params.yaml does not exist. Fix: run the command in the project's folder"
        in lines[0]
    )
    assert "`cp profiles/sample.yaml params.yaml`" in lines[0]
    for line in lines:
        assert line.startswith(("ok ", "warning ", "problem "))
        assert line.startswith("ok ") != (" -> " in line)
    assert any("in no git repository -> `git init && git add -A" in line for line in lines)
    assert any(line.startswith("problem  stages: there is no dvc.yaml here") for line in lines)


@pytest.mark.usefixtures("folder")
def test_json_has_level_topic_text_and_remedy() -> None:
    found = run("--json")
    assert found.exit_code == 1
    assert all(row.keys() == {"level", "topic", "text", "remedy"} for row in json.loads(found.stdout))


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


@pytest.mark.parametrize("profile", sorted((ROOT / "profiles").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_profile_can_be_examined(folder: Path, profile: Path) -> None:
    shutil.copytree(ROOT / "profiles", folder / "profiles")
    pinned = "pipeline/datasets/pinned"
    shutil.copytree(ROOT / pinned, folder / pinned)
    shutil.copy(profile, folder / "params.yaml")
    found = {row["topic"]: row for row in json.loads(run("--json").stdout)}
    assert found["parameters"]["text"] == f"params.yaml is the profile {profile.stem}"
    assert found["dataset"]["text"]


# --- the machine --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "text", "remedy"),
    [
        ("mps", "quantization is nf4, which bitsandbytes", "set language_model.quantization: none"),
        ("cuda:99", "The device cuda:99", "set runtime.device: auto"),
    ],
)
def test_a_device_that_cannot_be_used_is_a_problem(
    write: Write, tiny_params: Params, monkeypatch: pytest.MonkeyPatch, device: str, text: str, remedy: str
) -> None:
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    write(replace(tiny_params, runtime=replace(tiny_params.runtime, device=device)))
    found = result("device")
    assert found["level"] == "problem"
    assert text in found["text"]
    assert found["remedy"] == f"{remedy} in params.yaml"


def test_a_gpu_that_pytorch_does_not_reach_is_a_problem(
    write: Write, tiny_params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tiny_params)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(machine, "why_no_cuda", lambda: "the NVIDIA driver is too old")
    which = shutil.which
    monkeypatch.setattr(
        shutil, "which", lambda name, *_: "/bin/nvidia-smi" if name == "nvidia-smi" else which(name)
    )
    found = result("GPU")
    assert found["level"] == "problem"
    assert found["text"].endswith("finds no CUDA GPU: the NVIDIA driver is too old")


@pytest.mark.parametrize(
    ("name", "has_gpu", "expected"),
    [
        ("org/llama", False, ["there is none, and org/llama takes days to train with on a CPU"]),
        ("org/llama", True, []),
        # The sample and a local folder are meant for what there is.
        ("wheel:smollm2-135m", False, []),
        (".", False, []),
    ],
)
def test_a_model_of_the_hub_without_a_gpu_is_a_warning(
    tiny_params: Params, monkeypatch: pytest.MonkeyPatch, name: str, has_gpu: bool, expected: list[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: has_gpu)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    params = replace(tiny_params, language_model=replace(tiny_params.language_model, name=name))
    found = [one for one in machine.check_machine(Path(), params) if one.topic == "GPU"]
    assert [(one.level, one.text) for one in found] == [("warning", text) for text in expected]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("free", "level"), [(1e9, "warning"), (64e9, "ok")])
def test_little_memory_is_a_warning(monkeypatch: pytest.MonkeyPatch, free: float, level: str) -> None:
    monkeypatch.setattr(machine, "free_memory", lambda: free)
    memory = result("memory")
    assert memory["level"] == level
    assert f"{free / 1e9:.1f} GB free" in memory["text"]


def test_missing_and_old_packages_are_problems_and_others_warnings(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = "transformers bitsandbytes accelerate safetensors numpy pillow huggingface_hub lightweight-vlm"
    versions = dict.fromkeys(names.split(), "999")
    versions |= {"torch": "2.0.0", "h5py": "3.99+local", "dvc": "3.67.1+x"}
    installed = [SimpleNamespace(name=name, version=version) for name, version in versions.items()]
    monkeypatch.setattr("importlib.metadata.distributions", lambda: installed)
    (folder / "requirements.lock").write_text("h5py==3.16.0\ndvc==3.67.1\nother==1 ; python_version > '3'\n")
    found = {(one["level"], one["text"].split()[0]) for one in results("packages")}
    assert found == {("problem", "torch"), ("problem", "peft"), ("warning", "h5py")}


# --- the project --------------------------------------------------------------------------------------


def test_a_dataset_is_counted_or_its_fault_named(folder: Path, write: Write, tiny_params: Params) -> None:
    write(replace(tiny_params, data=replace(tiny_params.data, source="jsonl", root="photos")))
    missing = result("dataset")
    assert missing["level"] == "problem"
    assert "data.root is photos, which does not exist" in missing["text"]
    assert "dvc exp run -S data.root=FOLDER" in missing["remedy"]

    (folder / "photos").mkdir()
    rows = [
        {"image": f"{n}.jpg", "captions": ["a dog", "a cat"], "split": split}
        for n, split in enumerate(["train", "train", "dev", "test"])
    ]
    (folder / "photos" / "captions.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert "0.jpg, 1.jpg, 2.jpg and 1 more: 4 of 4 images" in result("dataset")["text"]
    for row in rows:
        (folder / "photos" / str(row["image"])).touch()
    found = result("dataset")
    assert found["level"] == "ok"
    assert "train 2 images with 4 captions, dev 1 images with 2 captions, test 1" in found["text"]


def test_a_dataset_of_the_hub_is_counted_and_what_is_missing_told(
    folder: Path, write: Write, tiny_params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = replace(tiny_params.data, source="hub", root=".", pins="pins.json", limits=Limits(7, None, 2))
    write(replace(tiny_params, data=data))
    assert "pins.json" in result("dataset")["text"]
    save_flickr8k(folder / "files")
    write_pins(folder / "pins.json", pins_of(folder / "files"))
    offline = result("dataset")
    assert offline["level"] == "problem"
    assert "jxie/flickr8k at 56f58c9 (train 7, dev 3, test 2 images): " in offline["text"]
    assert f"`hf download jxie/flickr8k --repo-type dataset --revision {COMMIT}`" in offline["text"]

    monkeypatch.setattr(project, "ask_for_file", lambda _, file: HubFile(file, 300_000_000, "test" in file))
    found = result("dataset")
    assert (found["level"], found["text"].split(": ")[1]) == ("ok", "prepare downloads 3 files, 0.90 GB")
    monkeypatch.setattr(project, "ask_for_file", lambda _, file: HubFile(file, 300_000_000, True))
    assert result("dataset")["text"].endswith("images): in the hub cache")


def test_stages_that_follow_from_changed_ones_are_listed() -> None:
    stages: dict[str, Any] = {
        "a": {"outs": ["1", {"2": {"cache": False}}]},
        "b": {"deps": ["x"], "outs": ["3"]},
        "c": {"deps": ["2"], "outs": ["4"]},
        "d": {"deps": ["4"]},
    }
    assert project.stages_to_run(stages, {"a"}) == ["a", "c", "d"]
    assert project.stages_to_run(stages, set()) == []


def test_a_failing_dvc_is_a_warning_with_its_error(folder: Path) -> None:
    """There is no repository of DVC here."""
    (folder / "dvc.yaml").write_text("stages: {}\n")
    found = project.check_stages(folder)
    assert found.level == "warning"
    assert found.text.startswith("`dvc status` failed and said: you are not inside of a DVC repository")


def test_a_run_under_way_is_said_to_be_one(folder: Path) -> None:
    (folder / "dvc.yaml").write_text("stages: {}\n")
    (folder / ".dvc" / "tmp").mkdir(parents=True)
    holder = {"pid": os.getpid(), "cmd": "dvc repro"}
    locks = {"write": {str(folder / "data" / "images"): holder}, "read": {}}
    (folder / ".dvc" / "tmp" / "rwlock").write_text(json.dumps(locks))
    found = project.check_stages(folder)
    assert found.level == "warning"
    assert found.text.startswith(f"DVC is at work (process {os.getpid()}: dvc repro)")
    assert "wait until it has ended" in str(found.remedy)


# --- the disk -----------------------------------------------------------------------------------------


def free(monkeypatch: pytest.MonkeyPatch, gigabytes: float) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=gigabytes * 1e9))


def needed(folder: Path, params: Params, needs: machine.DiskNeeds, feature: tuple[int, int]) -> float:
    """GB, as the line on the disk says."""
    (found,) = machine.check_disk(folder, params, needs, feature)
    return float(found.text.split("about ")[1].split(" GB needed")[0])


def test_features_are_counted_three_times_and_not_where_they_are_there(
    folder: Path, tiny_params: Params
) -> None:
    needs, feature = machine.DiskNeeds(images=30), (16, 1_000_000)
    size = 30 * 16 * 1_000_000 * 2
    before = needed(folder, tiny_params, needs, feature)
    (folder / "data").mkdir()
    store = folder / "data" / "features.h5"
    for bytes_there, counted in ((size // 2, 3), (size + 10_000, 0), (2 * size, 3)):
        with store.open("wb") as file:
            file.truncate(bytes_there)
        change = needed(folder, tiny_params, needs, feature) - before
        assert change == pytest.approx((counted - 3) * size / 1e9, abs=0.02)


def test_downloads_and_unpacked_images_are_counted(folder: Path, tiny_params: Params) -> None:
    alone = needed(folder, tiny_params, machine.DiskNeeds(3), (16, 32))
    needs = machine.DiskNeeds(3, unpacked=1_000_000_000, downloads=[2_000_000_000, 3_000_000_000, 0])
    # Images twice: DVC keeps a copy.
    assert needed(folder, tiny_params, needs, (16, 32)) == pytest.approx(alone + 2 + 2 + 3, abs=0.02)
    (folder / "data").mkdir()
    (folder / "data" / "images.jsonl").touch()
    assert needed(folder, tiny_params, needs, (16, 32)) == pytest.approx(alone + 2 + 3, abs=0.02)


def test_downloads_of_unknown_size_are_said_to_come_on_top(folder: Path, tiny_params: Params) -> None:
    needs = machine.DiskNeeds(3, downloads=[0, None])
    (found,) = machine.check_disk(folder, tiny_params, needs, (16, 32))
    assert found.text.endswith("needed for features and checkpoints; downloads of unknown size come on top")


def test_a_cache_on_another_disk_is_looked_at_by_itself(
    folder: Path, tiny_params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == folder.stat().st_dev:
        pytest.skip("needs a second file system at /dev/shm")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(other / "not there yet"))
    free(monkeypatch, 5)
    needs = machine.DiskNeeds(3, downloads=[6_000_000_000, None])
    here, cache = machine.check_disk(folder, tiny_params, needs, (16, 32))
    assert (here.level, cache.level) == ("ok", "problem")
    assert cache.text.startswith("5.0 GB free, about 6.00 GB needed for downloads in /dev/shm")
    assert cache.text.endswith("; downloads of unknown size come on top")
    assert "HF_HOME" in str(cache.remedy)


def test_too_little_disk_is_a_problem_that_says_how_much_is_needed(
    folder: Path, tiny_params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 16 tokens of 32 float16 an image, kept three times.
    for gigabytes, level in ((1000, "ok"), (3.5, "warning"), (2, "problem")):
        free(monkeypatch, gigabytes)
        (found,) = machine.check_disk(folder, tiny_params, machine.DiskNeeds(1_000_000), (16, 32))
        assert "about 3.07 GB needed" in found.text
        assert found.level == level


@pytest.mark.parametrize(("images", "feature"), [(None, (16, 32)), (3, None)])
def test_a_run_of_unknown_size_is_said_to_be_one(
    folder: Path, tiny_params: Params, images: int | None, feature: tuple[int, int] | None
) -> None:
    (found,) = machine.check_disk(folder, tiny_params, machine.DiskNeeds(images), feature)
    assert found.text.endswith("is not known yet")
