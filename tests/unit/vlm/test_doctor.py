"""vlm doctor: what is ready, what is a problem, and the remedy of each.

Run: .venv/bin/python -m pytest tests/unit/vlm/test_doctor.py
"""

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import constants

from pipeline.params.schema import EncoderParams, Params
from tests.dataset_makers import make_jsonl
from tests.e2e.conftest import make_project
from tests.hub_stand_in import HubStandIn
from tests.import_closure import ROOT
from tests.params_files import with_changes
from tests.unit.project import write_dvc_lock
from tests.vlm_command import run_vlm
from vlm.checks import machine, models, project
from vlm.doctor import CheckResult


def run(code: int, *args: str) -> list[str]:
    return run_vlm("doctor", *args, code=code).stdout.splitlines()


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


def test_wrong_parameters_are_to_be_corrected_not_overwritten(folder: Path) -> None:
    sample = (ROOT / "params.yaml").read_text()
    (folder / "params.yaml").write_text(f"{sample}\ntrain: {{epochs: 0}}\n")
    lines = run(1)
    assert lines[0].startswith("problem  parameters: params.yaml")
    assert "`git diff HEAD params.yaml`" in lines[0]
    assert not any("stages:" in line for line in lines)


# --- the machine --------------------------------------------------------------------------------------


def of_machine(params: Params | None, topic: str) -> list[CheckResult]:
    return [result for result in machine.check_machine(params) if result.topic == topic]


@pytest.mark.parametrize(
    ("device", "text", "remedy"),
    [("mps", "nf4", "language_model.quantization: none"), ("cuda:99", "cuda:99", "runtime.device: auto")],
)
def test_a_device_that_cannot_be_used_is_a_problem(
    tiny_params: Params, monkeypatch: pytest.MonkeyPatch, device: str, text: str, remedy: str
) -> None:
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    params = with_changes(tiny_params, runtime={"device": device})
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
    params = with_changes(tiny_params, language_model={"name": name})
    results = of_machine(params, "GPU")
    assert [result.level for result in results] == ([level] if level else [])
    assert all(text in result.text for result in results)


@pytest.mark.parametrize(("free", "level"), [(1e9, "warning"), (64e9, "ok")])
def test_little_memory_is_a_warning(monkeypatch: pytest.MonkeyPatch, free: float, level: str) -> None:
    monkeypatch.setattr(machine, "free_memory", lambda: free)
    (result,) = of_machine(None, "memory")
    assert (result.level, result.text) == (level, f"{free / 1e9:.1f} GB free")


# --- the project --------------------------------------------------------------------------------------


def test_a_dataset_is_counted_or_its_fault_named(folder: Path, tiny_params: Params) -> None:
    params = with_changes(tiny_params, data={"source": "jsonl", "root": "photos"})
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
    write_dvc_lock(os.getpid())
    at_work = project.check_stages(folder)
    assert failing.level == at_work.level == "warning"
    assert "you are not inside of a DVC repository" in failing.text
    assert at_work.text.startswith(f"DVC is at work (process {os.getpid()}: dvc repro)")


# --- the disk -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("free", "level"), [(1000, "ok"), (12.5, "warning"), (2, "warning")])
def test_too_little_disk_is_a_warning_with_the_need(
    folder: Path, tiny_params: Params, monkeypatch: pytest.MonkeyPatch, free: float, level: str
) -> None:
    """Features count three times, images twice: kept work and DVC have copies."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free * 1e9))
    needs = machine.DiskNeeds(1_000_000, unpacked=10**9, downloads=[3 * 10**9, 4 * 10**9, None])
    result = machine.check_disk(folder, tiny_params, needs, (16, 32))
    assert result.level == level
    assert (
        f"about {3 * 1.024 + 2 * 1 + 7:.2f} GB, 7.00 GB of it downloads; downloads of unknown" in result.text
    )
    assert ("HF_HOME" in str(result.remedy)) == (level == "warning")
    unknown = machine.check_disk(folder, tiny_params, machine.DiskNeeds(None), (16, 32))
    assert unknown.text.endswith("is not known yet")


# --- the models: the hub, its cache or a folder gives them; nothing is downloaded ------------------------

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tiny_llama: Path, local_hub: HubStandIn) -> HubStandIn:
    """A hub with a gated Llama at one commit, and a token that may read it."""
    local_hub.tokens = {"hf_granted": {"org/llama"}}
    local_hub.add("org/llama", tiny_llama, COMMIT, gated=True)
    return local_hub


def check(params: Params, name: str, revision: str | None = COMMIT, topic: str = "encoder") -> CheckResult:
    params = with_changes(params, encoder={"name": name, "revision": revision})
    return next(result for result in models.check_models(params) if result.topic == topic)


@pytest.mark.parametrize(
    ("name", "token", "text"),
    [("org/llama", "", "https://huggingface.co/org/llama"), ("not/a/name", "hf_granted", "'not/a/name'")],
)
@pytest.mark.usefixtures("hub")
def test_what_the_hub_refuses_is_a_problem(
    tiny_params: Params, monkeypatch: pytest.MonkeyPatch, name: str, token: str, text: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    result = check(tiny_params, name)
    assert result.level == "problem"
    assert text in result.text
    assert "a local folder as encoder.name in params.yaml" in str(result.remedy)
    # A missing token was called ok, whatever the hub refused.
    assert check(tiny_params, name, topic="hub token").level == ("ok" if token else "warning")


def test_half_of_a_model_in_the_cache_is_a_problem(
    tiny_params: Params, tiny_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = tmp_path / "hub" / "models--org--model"
    snapshot = shutil.copytree(tiny_clip, cached / "snapshots" / "abc")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    assert check(tiny_params, "org/model", None).text == "org/model is in the hub's cache"
    weights = snapshot / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    result = check(tiny_params, "org/model", None)
    assert result.level == "problem"
    assert "HF_HUB_OFFLINE" in result.text


def test_a_folder_needs_config_and_whole_weights(folder: Path, tiny_params: Params, tiny_clip: Path) -> None:
    clip = shutil.copytree(tiny_clip, folder / "clip")
    assert check(tiny_params, "clip").level == "ok"
    weights = clip / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "model.safetensors is damaged" in check(tiny_params, "clip").text
    weights.unlink()
    assert "has no *.safetensors" in check(tiny_params, "clip").text
    (clip / "config.json").unlink()
    assert "no config.json" in check(tiny_params, "clip").text
    for name in ("./nowhere", "wheel:nobody"):
        result = check(tiny_params, name)
        assert (result.level, bool(result.remedy)) == ("problem", True)
        assert name.removeprefix("./") in result.text


@pytest.mark.parametrize(
    ("name", "tokens", "grid", "shape"),
    [
        ("openai/clip-vit-base-patch32", "cls+patches", None, (50, 768)),
        ("folder/clip-vit-large-patch14-336", "patches", None, (576, 1024)),
        ("wheel:efficientnet-lite0", "patches", 4, (16, 1344)),
        ("org/other", "cls", None, None),
    ],
)
def test_the_encoders_name_gives_the_features_shape(
    name: str, tokens: Any, grid: int | None, shape: tuple[int, int] | None
) -> None:
    assert models.feature_shape(EncoderParams(name, None, -2, tokens, grid)) == shape
