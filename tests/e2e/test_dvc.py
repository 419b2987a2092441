"""What DVC's users do, with the real DVC, tiny CLIP and Llama, and generated scenes.

The tests of this file share one project and run in order: each builds on the one before.
"""

import json
import re
from pathlib import Path

import pytest

from tests.e2e.conftest import Project

STAGES = ("prepare", "encode", "tokenize", "train", "evaluate", "regions", "report")


@pytest.fixture
def done(finished_project: Project) -> Project:
    return finished_project


def stages_run(output: str) -> set[str]:
    return set(re.findall(r"Running stage '(\w+)'", output))


def test_a_first_repro_makes_every_output(done: Project) -> None:
    evaluation = json.loads((done.folder / "metrics/evaluate.json").read_text())
    assert evaluation["best_epoch"] in (1, 2)
    assert set(evaluation["by_epoch"]) == {"1", "2"}
    assert {"constant", "nearest", "shuffled"} <= set(evaluation["controls"])
    for path in ("data/features.h5", "data/tokens.h5", "data/best.safetensors", "report/index.html"):
        assert (done.folder / path).stat().st_size > 0
    checkpoints = sorted(p.name for p in (done.folder / "data/checkpoints").iterdir())
    assert checkpoints == ["epoch_001.safetensors", "epoch_002.safetensors"]


def test_the_summary_names_epoch_scores_and_gallery(done: Project) -> None:
    printed = done.run("python", "-m", "stages.summary")
    assert "Best epoch:" in printed
    assert "report/index.html" in printed


def test_a_second_repro_runs_nothing(done: Project) -> None:
    assert "Data and pipelines are up to date" in done.run("dvc", "repro")
    assert done.run("dvc", "status", "-q") == ""


def test_more_epochs_rerun_train_onwards_and_keep_the_epochs_there_are(done: Project) -> None:
    before = (done.folder / "data/checkpoints/epoch_002.safetensors").read_bytes()
    printed = done.run("dvc", "exp", "run", "-S", "train.epochs=3")
    # Regions are asked anew only if another epoch is the best now.
    assert stages_run(printed) - {"regions"} == {"train", "evaluate", "report"}
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
    printed = done.run("dvc", "exp", "run", "-S", "train.epochs=1")
    assert "0 of 4 steps trained now" in printed
    checkpoints = [p.name for p in (done.folder / "data/checkpoints").iterdir()]
    assert checkpoints == ["epoch_001.safetensors"]


def test_a_temporary_run_leaves_the_workspace_alone(done: Project) -> None:
    before = (done.folder / "params.yaml").read_bytes()
    done.run("dvc", "exp", "run", "--temp", "--name", "apart", "-S", "train.learning_rate=1e-4")
    assert (done.folder / "params.yaml").read_bytes() == before
    shown = done.run("dvc", "exp", "show", "--json")
    assert "apart" in shown


def test_a_queued_run_is_carried_out(done: Project) -> None:
    done.run("dvc", "exp", "run", "--queue", "--name", "queued", "-S", "generate.max_new_tokens=4")
    done.run("dvc", "queue", "start")
    done.run("dvc", "queue", "status")
    # `start` returns at once; `logs --follow` returns when the task has ended.
    done.run("dvc", "queue", "logs", "--follow", "queued")
    assert "Success" in done.run("dvc", "queue", "status")
