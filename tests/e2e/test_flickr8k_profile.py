"""The real run, in small: the profile of Flickr8k, CLIP and Llama from nothing to the table.

A stand-in on loopback serves tiny models and a tiny dataset under the names and commits of the real ones, and
the tiny dataset's pins take the place of Flickr8k's; the profile is as shipped, reduced by `-S` alone. The
tests share one project and run in order.
"""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.params.loader import load_params
from tests.e2e.conftest import Project, make_project
from tests.hub_stand_in import HubStandIn
from tests.import_closure import ROOT
from tests.tiny_flickr8k import COMMIT, NAME, pins_of, save_flickr8k, write_pins
from tests.tiny_models import save_openai_clip

PROFILE = ROOT / "profiles" / "flickr8k.yaml"
LLAMA = "meta-llama/Llama-3.2-1B"
REDUCTIONS = (
    "projector.hidden_size=32",
    "train.epochs=1",
    "generate.max_new_tokens=6",
    "regions.images=2",
    "runtime.device=cpu",
    "runtime.compile=never",
    "runtime.num_workers=0",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the tiny dataset."""
    folder = tmp_path_factory.mktemp("e2e")
    save_flickr8k(folder / "files")
    return folder


@pytest.fixture(scope="module")
def hub(folder: Path, tiny_llama: Path) -> Iterator[HubStandIn]:
    """A hub with the profile's models and dataset."""
    params = load_params(PROFILE)
    with HubStandIn(tokens={"hf_granted": {LLAMA}, "hf_stranger": set()}) as hub:
        hub.add(params.encoder.name, save_openai_clip(folder / "clip"), str(params.encoder.revision))
        hub.add(LLAMA, tiny_llama, str(params.language_model.revision), gated=True)
        hub.add(NAME, folder / "files", COMMIT, kind="dataset")
        yield hub


@pytest.fixture(scope="module")
def project(folder: Path, hub: HubStandIn) -> Project:
    """A project with the profile as it is, and the pins of the tiny dataset where those of Flickr8k are."""
    project = make_project(folder / "project", load_params(PROFILE))
    shutil.copy(PROFILE, project.folder / "params.yaml")
    data = load_params(PROFILE).data
    write_pins(Path(project.folder, data.root, data.pins), pins_of(folder / "files"))
    project.environment |= {**hub.environment(folder / "home"), "HF_TOKEN": ""}
    project.commit("profile")
    return project


def reproduce(project: Project, code: int = 0, **environment: str) -> str:
    """What the run prints: our sentences, nothing of the libraries'."""
    project.environment |= environment
    reductions = [part for reduction in REDUCTIONS for part in ("-S", reduction)]
    printed = project.run("dvc", "exp", "run", *reductions, code=code)
    for noise in ("HTTP Request", "LOAD REPORT", "UNEXPECTED", "clean_up_tokenization", "Traceback"):
        assert noise not in printed, printed
    return printed


def test_the_doctor_says_what_comes_from_where(project: Project, hub: HubStandIn) -> None:
    # Memory is this machine's: only what the profile asks for is looked at.
    printed = project.run(sys.executable, "-m", "vlm", "doctor", code=1).splitlines()
    for line in (
        "ok       parameters: params.yaml is the profile flickr8k",
        "ok       encoder: openai/clip-vit-base-patch32 is within reach, 0.00 GB to download",
        f"problem  language model: {LLAMA} is gated. Fix: accept its license at https://huggingface.co/{LLAMA}",
        f"ok       dataset: {NAME} at {COMMIT:.7} (train 9, dev 3, test 4 images): prepare downloads 4 files",
    ):
        assert any(printed_line.startswith(line) for printed_line in printed), printed
    assert not [line for line, _ in hub.requests if "/cdn/" in line]


def test_troubles_of_the_hub_are_survived_and_gated_models_told(project: Project, hub: HubStandIn) -> None:
    # A transfer that ends early, and a hub that is away for a moment.
    hub.truncated, hub.failing, hub.status, hub.requests = 1, 1, 503, []
    printed = reproduce(project, code=255)
    assert (hub.truncated, hub.failing) == (0, 0)
    # Four files, and the one whose transfer broke off.
    assert len(hub.transfers(".parquet")) == 5
    assert "16 images (train 9, dev 3, test 4), 80 captions" in printed
    assert f"{LLAMA} is gated. Fix: accept its license at https://huggingface.co/{LLAMA}, wait" in printed


def test_with_access_the_run_goes_on_and_survives_broken_transfers(project: Project, hub: HubStandIn) -> None:
    hub.truncated, hub.requests = 1, []
    printed = reproduce(project, HF_TOKEN="hf_granted")
    # Dataset, images and features are there from before.
    assert not hub.transfers(".parquet")
    assert "Running stage 'encode'" not in printed
    evaluation = json.loads((project.folder / "metrics/evaluate.json").read_text())
    assert set(evaluation["by_epoch"]) == {"1"}
    assert (project.folder / "report/index.html").stat().st_size > 0
    # Afterwards the hub is not needed.
    hub.requests = []
    project.run("dvc", "repro", "-s", "-f", "evaluate")
    assert not [line for line, _ in hub.requests if "/cdn/" in line]
