"""What DVC's users do, with the real DVC, tiny CLIP and Llama, and generated scenes.

The tests share one project and run in order: each builds on the one before.
Run: .venv/bin/python -m pytest tests/e2e/test_dvc.py
"""

import json
import re
from pathlib import Path

import pytest

from pipeline.params.schema import Params
from pipeline.result_code import ENCODE, EVALUATE, PIPELINE, REGIONS, TRAIN, ResultCode
from tests.e2e.conftest import Project, make_project, stages_run

KEPT = {"encode": ENCODE, "train": TRAIN, "evaluate": EVALUATE, "regions": REGIONS}
ROOMS = {"encode": "encoding", "train": "training", "evaluate": "evaluation", "regions": "regions"}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, tiny_params: Params) -> Project:
    """A project after a first `dvc repro`, its results committed."""
    project = make_project(tmp_path_factory.mktemp("e2e") / "project", tiny_params)
    project.run("dvc", "repro")
    project.commit("first run")
    return project


def edit(project: Project, *names: str) -> None:
    """Append a comment to source files."""
    for name in names:
        path = project.folder / name
        path.parent.mkdir(exist_ok=True)
        with path.open("a") as file:
            file.write("# edited\n")


def test_a_first_repro_makes_every_output(done: Project) -> None:
    evaluation = json.loads((done.folder / "metrics/evaluate.json").read_text())
    assert evaluation["best_epoch"] in (1, 2)
    assert set(evaluation["by_epoch"]) == {"1", "2"}
    assert {"constant", "nearest", "shuffled"} <= set(evaluation["controls"])
    for path in ("data/features.h5", "data/tokens.h5", "data/best.safetensors", "report/index.html"):
        assert (done.folder / path).stat().st_size > 0
    checkpoints = sorted(p.name for p in (done.folder / "data/checkpoints").iterdir())
    assert checkpoints == ["epoch_001.safetensors", "epoch_002.safetensors"]
    printed = done.run("python", "-m", "stages.summary")
    assert "Best epoch:" in printed
    assert "report/index.html" in printed


def test_a_second_repro_runs_nothing(done: Project) -> None:
    assert "Data and pipelines are up to date" in done.run("dvc", "repro")


def test_code_that_shows_or_uses_a_model_re_runs_neither_train_nor_encode(done: Project) -> None:
    edit(done, "vlm/main.py", "pipeline/cluster/ray_engine.py")
    assert json.loads(done.run("dvc", "status", "--json")) == {}
    edit(done, "pipeline/report/report.py", "pipeline/export/llava.py", "pipeline/regions/regions.py")
    assert json.loads(done.run("dvc", "status", "--json")).keys() == {"regions", "report"}


@pytest.fixture(scope="module")
def said_after_edits(done: Project) -> dict[str, str]:
    """What each stage that keeps work says after edits of code that its work does not follow from."""
    edit(done, *(f"pipeline/{beside(code, ROOMS[stage])}" for stage, code in KEPT.items()))
    printed = done.run("dvc", "repro", *KEPT)
    return dict(re.findall(r"Running stage '(\w+)'(.+?)^Updating lock file", printed, re.M | re.S))


def beside(code: ResultCode, room: str) -> str:
    """The first file of a stage's room that its kept work does not follow from."""
    names = sorted(f"{room}/{path.name}" for path in (PIPELINE / room).glob("[!_]*.py"))
    return next(name for name in names if name not in code.digests())


@pytest.mark.parametrize(
    ("stage", "nothing_new"),
    [
        ("encode", r"^  0 of 26 images encoded now"),
        ("train", r"^train: 2 epochs, 0 of 8 steps trained now"),
        ("evaluate", r"^evaluate: best epoch (?s:(?!.* images captioned))"),
        ("regions", r"^regions: 10 requests about 2 images (?s:(?!.* answered now))"),
    ],
    ids=KEPT,
)
def test_an_edit_that_cannot_change_its_work_re_runs_a_stage_and_keeps_the_work(
    said_after_edits: dict[str, str], stage: str, nothing_new: str
) -> None:
    assert re.search(nothing_new, said_after_edits[stage], re.M)


def test_an_edit_of_the_model_trains_again_and_encodes_nothing(done: Project) -> None:
    edit(done, "pipeline/model/packing.py")
    printed = done.run("dvc", "repro", "train")
    assert stages_run(printed) == {"train"}
    assert "8 of 8 steps trained now" in printed


def test_more_epochs_rerun_train_onwards_and_keep_the_epochs_there_are(done: Project) -> None:
    done.commit("edited")
    before = (done.folder / "data/checkpoints/epoch_002.safetensors").read_bytes()
    printed = done.run("dvc", "exp", "run", "-S", "train.epochs=3", "evaluate")
    assert stages_run(printed) == {"train", "evaluate"}
    assert "continuing at epoch 3, step 1" in printed
    # 16 images in batches of 4: one epoch of steps is new, two epochs are kept.
    assert "4 of 12 steps trained now" in printed
    assert len(list((done.folder / "data/checkpoints").iterdir())) == 3
    assert (done.folder / "data/checkpoints/epoch_002.safetensors").read_bytes() == before


def test_metrics_diff_and_plots_show_what_changed(done: Project) -> None:
    shown = done.run("dvc", "metrics", "diff", "--all")
    assert "test.bleu_4" in shown
    # A page at most: all that there is to say stands in evaluate.json, which is no metrics file.
    assert len(shown.splitlines()) <= 45, shown
    assert re.search(r"metrics/train.json\s+epochs\s+2\s+3", shown), shown
    page = done.run("dvc", "plots", "show", "--out", "plots_page").strip()
    assert Path(page.removeprefix("file://")).is_file()


def test_fewer_epochs_train_nothing_and_leave_no_surplus_checkpoint(done: Project) -> None:
    printed = done.run("dvc", "exp", "run", "-S", "train.epochs=1", "train")
    assert "0 of 4 steps trained now" in printed
    checkpoints = [p.name for p in (done.folder / "data/checkpoints").iterdir()]
    assert checkpoints == ["epoch_001.safetensors"]
