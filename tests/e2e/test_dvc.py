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
from tests.import_closure import ROOT
from tests.vlm_command import run_vlm


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, tiny_params: Params) -> Project:
    """A project after a first `dvc repro`."""
    project = make_project(tmp_path_factory.mktemp("e2e") / "project", tiny_params)
    project.run("dvc", "repro")
    return project


def edit(project: Project, *names: str) -> None:
    """Append a comment to source files."""
    for name in names:
        with (project.folder / name).open("a") as file:
            file.write("# edited\n")


def harmless(code: ResultCode, room: str) -> str:
    """The first file of a stage's room from which its kept work does not follow."""
    names = sorted(f"{room}/{path.name}" for path in (PIPELINE / room).glob("[!_]*.py"))
    return f"pipeline/{next(name for name in names if name not in code.digests())}"


def test_a_first_repro_makes_every_output(done: Project) -> None:
    evaluation = json.loads((done.folder / "metrics/evaluate.json").read_text())
    assert set(evaluation["by_epoch"]) == {"1", "2"}
    assert {"constant", "nearest", "shuffled"} <= set(evaluation["controls"])
    for path in ("data/features.h5", "data/tokens.h5", "data/best.safetensors", "report/index.html"):
        assert (done.folder / path).stat().st_size > 0
    summary = done.run("python", "-m", "stages.summary")
    assert "Best epoch:" in summary
    assert "report/index.html" in summary


def test_what_readme_commits_after_a_run_is_all_that_git_sees(done: Project) -> None:
    (command,) = re.findall("`(git add .*)`", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert done.run("git", "status", "--short") == "?? dvc.lock\n?? metrics/\n?? plots/\n"
    done.run("sh", "-c", command)
    assert done.run("git", "status", "--short") == ""


def test_a_mistake_stops_a_run_before_dvc_removes_any_output(done: Project) -> None:
    """What is a mistake is tested in tests/unit/stages/test_check.py."""
    path = done.folder / "params.yaml"
    before, outputs = path.read_bytes(), done.outputs()
    assert {"data/checkpoints/epoch_002.safetensors", "metrics/train.json"} <= outputs.keys()
    path.write_text(before.decode().replace("epochs: 2", "epochs: two"))
    printed = done.run("dvc", "repro", code=255)
    path.write_bytes(before)
    assert "train.epochs is 'two'; allowed: a whole number" in " ".join(printed.split())
    assert re.findall(r"Running stage '(\w+)'", printed) == ["check"]
    assert done.outputs() == {name: content for name, content in outputs.items() if name != "data/checked"}
    assert "Running stage" not in done.run("dvc", "repro")


def test_another_way_to_carry_out_a_run_is_checked_and_runs_nothing_else(done: Project) -> None:
    printed = done.run("dvc", "exp", "run", "-S", "runtime.generate_batch_size=5")
    assert re.findall(r"Running stage '(\w+)'", printed) == ["check"]
    assert json.loads(done.run("dvc", "status", "--json")) == {}


def test_code_that_shows_or_uses_a_model_re_runs_neither_train_nor_encode(done: Project) -> None:
    """With what was not edited, nothing is to be run a second time."""
    edit(done, "vlm/main.py", "pipeline/cluster/ray_engine.py", "pipeline/report/report.py")
    edit(done, "pipeline/export/llava.py", harmless(REGIONS, "regions"))
    changed = json.loads(done.run("dvc", "status", "--json")).keys()
    # `check` reads the requests for regions; its output never changes.
    assert changed - {"check"} == {"regions", "report"}


def test_an_edit_that_cannot_change_its_work_re_runs_a_stage_and_keeps_the_work(done: Project) -> None:
    printed = done.run("dvc", "repro", "regions")
    assert stages_run(printed) == {"regions"}
    assert "10 requests about 2 images" in printed
    assert "answered now" not in printed


def test_more_epochs_and_such_edits_keep_the_images_and_the_epochs_there_are(done: Project) -> None:
    edit(done, harmless(ENCODE, "encoding"), harmless(TRAIN, "training"), harmless(EVALUATE, "evaluation"))
    done.commit("edited")
    before = (done.folder / "data/checkpoints/epoch_002.safetensors").read_bytes()
    printed = done.run("dvc", "exp", "run", "-S", "train.epochs=3", "evaluate")
    assert stages_run(printed) == {"encode", "train", "evaluate"}
    assert "0 of 26 images encoded now" in printed
    assert "continuing at epoch 3, step 1" in printed
    # 16 images, two rows each, in batches of 4: one epoch's steps are new, those of two epochs are kept.
    assert "8 of 24 steps trained now" in printed
    assert set(re.findall(r"epoch (\d), \w+: \d+ images captioned", printed)) == {"3"}
    assert len(list((done.folder / "data/checkpoints").iterdir())) == 3
    assert (done.folder / "data/checkpoints/epoch_002.safetensors").read_bytes() == before


def test_metrics_diff_and_plots_show_what_changed(done: Project) -> None:
    table = done.run("dvc", "metrics", "diff", "--all")
    assert "test.bleu_4" in table
    # A page at most: details are in evaluate.json, which is not a metrics file.
    assert len(table.splitlines()) <= 45, table
    assert re.search(r"metrics/train.json\s+epochs\s+2\s+3", table), table
    page = done.run("dvc", "plots", "show", "--out", "plots_page").strip()
    assert Path(page.removeprefix("file://")).is_file()


def test_the_captions_of_two_runs_are_compared(done: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the last commit, out of DVC's cache, with those of the three epochs in the workspace."""
    monkeypatch.chdir(done.folder)
    before = done.run("git", "status", "--short")
    result = run_vlm("compare", "HEAD", "workspace")
    assert "A: HEAD, B: workspace; 6 images" in result.stdout
    shown = int(re.findall(r"Captions that differ: (\d)", result.stdout)[0])
    assert (done.folder / "report/compare.html").read_text(encoding="utf-8").count("<img") == shown
    assert done.run("git", "status", "--short") == before


def test_an_experiment_is_kept_as_a_branch_and_taken_back(done: Project) -> None:
    """As docs/commands.md says; git has nothing to report afterwards, and the table fits a terminal."""
    checkpoints = done.folder / "data/checkpoints"
    name = done.run("dvc", "exp", "list", "--name-only").split()[-1]
    done.run("dvc", "exp", "branch", name, "kept")
    columns = ["--drop", ".*", "--keep", "Experiment|train.epochs|test.(bleu_4|cider)"]
    table = done.run("dvc", "exp", "show", "--no-pager", "--only-changed", *columns)
    assert "test.cider" in table
    assert name in table
    assert max(map(len, table.splitlines())) <= 120
    (done.folder / "params.yaml").unlink()
    for revision, epochs in ((("HEAD", "--", "."), 2), (("kept",), 3)):
        done.run("git", "checkout", *revision)
        done.run("dvc", "checkout")
        assert done.run("git", "status", "--short", "--untracked-files=no") == ""
        assert len(list(checkpoints.iterdir())) == epochs
