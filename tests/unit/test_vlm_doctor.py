"""`vlm doctor`: one line a finding, what is wrong with its remedy, and never a download.

Run: .venv/bin/python -m pytest tests/unit/test_vlm_doctor.py
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from click.testing import CliRunner, Result
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
from ruamel.yaml import YAML

from pipeline.captions import ImageRecord
from pipeline.device import choose_placement
from pipeline.encoder import load_encoder
from pipeline.feature_store import write_store
from pipeline.params import EncoderParams, Limits, Params
from stages.reruns import with_followers
from tests.import_closure import ROOT
from tests.tiny_flickr8k import COMMIT, pins_of, save_flickr8k, write_pins
from vlm.checks import machine, models, project
from vlm.checks.finding import Finding
from vlm.main import main

Write = Callable[[Params], None]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: empty, in no git repository, and with an empty cache of the hub."""
    here = tmp_path / "project"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setattr(models.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return here


@pytest.fixture
def write(folder: Path) -> Write:
    """Writes params.yaml."""

    def write_params(params: Params) -> None:
        with (folder / "params.yaml").open("w", encoding="utf-8") as file:
            YAML().dump(_plain(asdict(params)), file)

    return write_params


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(of) for key, of in value.items()}
    return [_plain(of) for of in value] if isinstance(value, tuple) else value


def run(*args: str) -> Result:
    return CliRunner().invoke(main, ["doctor", *args])


def findings() -> dict[str, dict[str, Any]]:
    """By topic, what the command prints as JSON; of several of a topic the last."""
    return {row["topic"]: row for row in json.loads(run("--json").stdout)}


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


def on_hub(params: Params, name: str, revision: str | None = None) -> Params:
    return replace(params, encoder=replace(params.encoder, name=name, revision=revision))


def refusing(kind: type[Exception]) -> Callable[..., NoReturn]:
    def refuse(*_: object, **__: object) -> NoReturn:
        # Its own constructor wants a response of whichever HTTP library the hub's client rests on.
        raise kind.__new__(kind)

    return refuse


@pytest.mark.parametrize(
    ("kind", "text", "remedy"),
    [
        (GatedRepoError, "is gated", "accept its licence at https://huggingface.co/org/model"),
        (RepositoryNotFoundError, "knows no model org/model", "check the name"),
        (RevisionNotFoundError, "org/model has no revision abc", "commits/main"),
        (
            TimeoutError,
            "cannot be reached (TimeoutError)",
            "`hf download org/model --revision abc`",
        ),
    ],
)
def test_a_model_that_the_hub_does_not_give_has_its_remedy(
    write: Write,
    tiny_params: Params,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[Exception],
    text: str,
    remedy: str,
) -> None:
    write(on_hub(tiny_params, "org/model", "abc"))
    monkeypatch.setattr(models.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(models, "get_hf_file_metadata", refusing(kind))
    found = findings()["encoder"]
    assert found["level"] == "problem"
    assert text in found["text"]
    assert remedy in found["remedy"]


def test_a_model_within_reach_is_asked_for_once_and_not_downloaded(
    write: Write, tiny_params: Params, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []

    def metadata(url: str, timeout: float) -> None:
        asked.append((url, timeout))

    write(on_hub(tiny_params, "org/model"))
    monkeypatch.setattr(models.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(models, "get_hf_file_metadata", metadata)
    assert "within reach, and downloaded on first use" in findings()["encoder"]["text"]
    assert asked == [("https://huggingface.co/org/model/resolve/main/config.json", 5.0)]
    assert not (tmp_path / "hub").exists()


def test_offline_a_model_that_is_not_cached_is_a_problem(write: Write, tiny_params: Params) -> None:
    write(on_hub(tiny_params, "org/model"))
    found = findings()["encoder"]
    assert found["level"] == "problem"
    assert "HF_HUB_OFFLINE forbids" in found["text"]


def test_a_cached_model_is_enough_and_half_of_one_is_not(
    write: Write, tiny_params: Params, tiny_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = tmp_path / "hub" / "models--org--model"
    snapshot = cached / "snapshots" / "abc"
    shutil.copytree(tiny_clip, snapshot)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    cache = str(tmp_path / "hub")
    lookup = models.try_to_load_from_cache
    monkeypatch.setattr(models, "try_to_load_from_cache", lambda *a, **k: lookup(*a, **k, cache_dir=cache))
    write(on_hub(tiny_params, "org/model"))
    assert findings()["encoder"]["text"] == "org/model is in the hub's cache"
    whole = (snapshot / "model.safetensors").read_bytes()
    (snapshot / "model.safetensors").write_bytes(whole[:-100])
    assert findings()["encoder"]["level"] == "problem"
    (snapshot / "model.safetensors").unlink()
    assert findings()["encoder"]["level"] == "problem"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("./nowhere", "there is no model folder ./nowhere"),
        ("wheel:nobody", "there is no model wheel:nobody"),
        ("empty", "empty is a local folder, but holds not config.json"),
    ],
)
def test_a_local_model_that_is_none_is_a_problem(
    folder: Path, write: Write, tiny_params: Params, name: str, text: str
) -> None:
    (folder / "empty").mkdir()
    write(on_hub(tiny_params, name))
    found = findings()["encoder"]
    assert (found["level"], found["text"]) == ("problem", text)
    assert found["remedy"]


def test_truncated_weights_are_a_problem(
    folder: Path, write: Write, tiny_params: Params, tiny_clip: Path
) -> None:
    clip = shutil.copytree(tiny_clip, folder / "clip")
    write(on_hub(tiny_params, "clip"))
    assert findings()["encoder"]["level"] == "ok"
    weights = clip / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    found = findings()["encoder"]
    assert found["level"] == "problem"
    assert "clip is a local folder, but model.safetensors is damaged" in found["text"]
    weights.unlink()
    assert "holds no .safetensors weights" in findings()["encoder"]["text"]


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
    (folder / "pipeline").mkdir()
    shutil.copy(ROOT / "pipeline" / "flickr8k.json", folder / "pipeline")
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
    assert f"`hf download jxie/flickr8k --repo-type dataset --revision {COMMIT}`" in offline["remedy"]

    monkeypatch.setattr(project, "file_size", lambda _, file: (3e8, "test" in file))
    found = findings()["dataset"]
    assert (found["level"], found["text"].split(": ")[1]) == ("ok", "prepare downloads 3 files, 0.90 GB")
    monkeypatch.setattr(project, "file_size", lambda *_: (3e8, True))
    assert findings()["dataset"]["text"].endswith("images): in the hub cache")


def test_a_device_that_is_not_there_is_a_problem(write: Write, tiny_params: Params) -> None:
    write(replace(tiny_params, runtime=replace(tiny_params.runtime, device="cuda:99")))
    found = findings()["device"]
    assert found["level"] == "problem"
    assert found["remedy"] == "set runtime.device: auto in params.yaml"


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


@pytest.mark.parametrize(
    ("tokens", "grid"),
    [("patches", None), ("patches", 2), ("cls+patches", None), ("cls", None), ("mean", None)],
)
def test_the_shape_of_features_is_known_without_loading_the_encoder(
    tiny_clip: Path, tokens: Any, grid: int | None
) -> None:
    params = EncoderParams(str(tiny_clip), None, -2, tokens, grid)
    spec = load_encoder(params, choose_placement("cpu").device).spec
    assert models.feature_shape(params) == models.FeatureShape(spec.num_tokens, spec.width)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("openai/clip-vit-base-patch32", (49, 768)),
        ("openai/clip-vit-large-patch14-336", (576, 1024)),
        ("wheel:efficientnet-lite0", (49, 1344)),
    ],
)
def test_the_shape_of_known_encoders_needs_no_file(name: str, shape: tuple[int, int]) -> None:
    found = models.feature_shape(EncoderParams(name, None, -2, "patches", None))
    assert found == models.FeatureShape(*shape)


@pytest.mark.parametrize("change", [{"image_size": [64, 64]}, {"patch_size": None}, {"hidden_size": "32"}])
def test_a_vision_configuration_of_another_kind_is_not_guessed_at(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    sizes = {"image_size": 64, "patch_size": 16, "hidden_size": 32, **change}
    (tmp_path / "config.json").write_text(json.dumps({"vision_config": sizes}))
    assert models.feature_shape(EncoderParams(str(tmp_path), None, -2, "patches", None)) is None


def test_features_are_counted_as_written_only_where_they_are_this_encoders(
    folder: Path, tiny_params: Params
) -> None:
    images = [ImageRecord(f"{n}.png", f"{n}.png", f"{n:064x}", 8, 8) for n in range(3)]
    spec = {**asdict(tiny_params.encoder), "num_tokens": 16, "width": 32}

    def needed(spec: dict[str, Any]) -> float | None:
        features = np.zeros((3, 16, 32), np.float16)
        write_store(folder / "data" / "features.h5", images, spec, features)
        return project._bytes_to_write(folder, tiny_params, images=3)

    here, elsewhere = needed(spec), needed({**spec, "layer": -1})
    assert here is not None
    assert elsewhere == here + 3 * features_of(3)
    # Other files there are no features of this encoder.
    (folder / ".scratch" / "encode").mkdir(parents=True)
    (folder / ".scratch" / "encode" / "other.safetensors").write_bytes(bytes(10**6))
    assert project._bytes_to_write(folder, tiny_params, images=3) == elsewhere


def features_of(images: int) -> int:
    """Bytes, of 16 tokens of 32 float16 each."""
    return images * 16 * 32 * 2


def test_too_little_disk_is_a_problem_that_says_how_much_is_needed(
    folder: Path, tiny_params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(free: float) -> Finding:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": free}))
        return project.check_disk(folder, tiny_params, images=1_000_000)

    # 16 tokens of 32 float16 an image, kept three times.
    assert "about 3.07 GB needed" in check(1e12).text
    assert [check(free).level for free in (1e12, 3.5e9, 2e9)] == ["ok", "warning", "problem"]
    (folder / "data").mkdir()
    (folder / "data" / "features.h5").write_bytes(bytes(1000))
    assert project.check_disk(folder, tiny_params, images=None).text.endswith("is not known yet")


def test_stages_that_follow_from_changed_ones_are_listed() -> None:
    stages: dict[str, Any] = {
        "a": {"outs": ["1", {"2": {"cache": False}}]},
        "b": {"deps": ["x"], "outs": ["3"]},
        "c": {"deps": ["2"], "outs": ["4"]},
        "d": {"deps": ["4"]},
    }
    assert with_followers(stages, {"a"}) == ["a", "c", "d"]
    assert with_followers(stages, set()) == []


def test_a_failing_dvc_is_a_warning_with_its_last_words(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "dvc.yaml").write_text("stages: {}\n")
    failed = subprocess.CompletedProcess(["dvc"], 1, stdout="", stderr="one\nERROR: the lock is held\n")
    monkeypatch.setattr(project, "_run", lambda *_: failed)
    found = project.check_stages(folder)
    assert found.level == "warning"
    assert found.text == "`dvc status` failed and said: ERROR: the lock is held"
