"""The fault suite in short: `make faults` runs it in full."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import child, damage, full_disk, fuzz, hostile, kills, together
from tests.faults.child import Ended, Fault
from tests.faults.lab import Tally
from tests.faults.suite import KILLED, WITH_SCRATCH, Labs, make_labs

SEED = 7


@pytest.fixture(scope="module")
def labs(tmp_path_factory: pytest.TempPathFactory) -> Labs:
    return make_labs(tmp_path_factory.mktemp("faults"))


def lost(tally: Tally) -> list[str]:
    """What was lost of something that was tried."""
    assert tally.tried > 0
    return tally.lost


@pytest.mark.parametrize("stage", KILLED)
def test_a_killed_stage_ends_with_the_bytes_of_an_undisturbed_one(labs: Labs, stage: str) -> None:
    assert lost(kills.kill(labs.lab, stage, 3, SEED)) == []


def forgetful(run: Callable[..., Ended]) -> Callable[..., Ended]:
    """A stage that finds nothing of what it kept, in the place of one that continues."""

    def run_anew(folder: Path, stage: str) -> Ended:
        shutil.rmtree(folder / ".scratch" / stage, ignore_errors=True)
        return run(folder, stage)

    return run_anew


@pytest.mark.parametrize("stage", KILLED)
def test_the_suite_sees_work_that_is_done_again(
    labs: Labs, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "run", forgetful(child.run))
    monkeypatch.setattr(kills, "_IN_A_ROW", 1)
    # Late, when there is something to lose.
    monkeypatch.setattr(kills, "_kill_once", kill_late)
    losses = lost(kills.kill(labs.lab, stage, 1, SEED))
    assert [text for text in losses if text.endswith("were done again")] == losses != []


def kill_late(folder: Path, stage: str, whole: Ended, _: object) -> tuple[Ended, str]:
    """Before a change of its outputs, which come at the end."""
    ended = child.start(folder, stage, Fault(at_change=whole.changes - 2)).end()
    return ended, "late"


@pytest.mark.parametrize(
    ("stage", "file"),
    [
        ("encode", "data/features.h5"),
        ("evaluate", "metrics/evaluate.json"),
        ("evaluate", "data/best.safetensors"),
    ],
)
def test_the_suite_sees_a_file_that_is_gone(labs: Labs, stage: str, file: str) -> None:
    with labs.lab.project(stage) as folder:
        assert labs.lab.intact(folder, stage)
        (folder / file).unlink()
        assert not labs.lab.intact(folder, stage)


def test_a_folder_may_be_absent_between_two_renames_but_not_lack_a_file(labs: Labs) -> None:
    with labs.lab.project("evaluate") as folder:
        (folder / "data/predictions/old.txt").write_text("neither old nor new")
        assert not labs.lab.intact(folder, "evaluate")
        shutil.rmtree(folder / "data/predictions")
        assert labs.lab.intact(folder, "evaluate")
        shutil.copytree(labs.lab.state(None) / "data/predictions", folder / "data/predictions")
        assert labs.lab.intact(folder, "evaluate")
        next((folder / "data/predictions").iterdir()).unlink()
        assert not labs.lab.intact(folder, "evaluate")


def test_a_killed_training_goes_on_to_more_epochs(labs: Labs) -> None:
    assert lost(kills.more_epochs(labs.lab, labs.models, 1, SEED)) == []


def test_a_killed_training_leaves_nothing_to_other_parameters(labs: Labs) -> None:
    assert lost(kills.changed_parameter(labs.lab, labs.models, 1, SEED)) == []


@pytest.mark.parametrize("stage", WITH_SCRATCH)
def test_of_two_runs_the_second_is_told_who_holds_the_work(labs: Labs, stage: str) -> None:
    assert lost(together.two_runs(labs.lab, stage, 1, SEED)) == []


@pytest.mark.parametrize("stage", ["encode", "regions"])
def test_an_image_replaced_meanwhile_is_named(labs: Labs, stage: str) -> None:
    assert lost(together.replaced_image(labs.lab, stage, 1, SEED)) == []


@pytest.mark.parametrize("stage", ["prepare", "encode", "train", "evaluate", "regions"])
def test_files_that_may_not_grow_are_named_with_the_free_space(labs: Labs, stage: str) -> None:
    assert lost(full_disk.limited_files(labs.lab, stage, 1, SEED)) == []


@pytest.mark.parametrize("stage", ["encode", "train"])
def test_a_full_disk_is_named_with_the_free_space(labs: Labs, stage: str) -> None:
    reason = full_disk.why_no_small_disk(labs.lab.folder)
    if reason:
        pytest.skip(reason)
    assert lost(full_disk.small_disk(labs.lab, stage, 1, SEED)) == []


@pytest.mark.parametrize("target", damage.TARGETS, ids=lambda target: target.name)
def test_a_flipped_bit_is_refused_or_healed(labs: Labs, target: damage.Target) -> None:
    assert lost(damage.damaged(labs.lab, target, "one bit flipped", 1, SEED)) == []


@pytest.mark.parametrize("kind", damage.EXCHANGES)
def test_a_file_of_another_place_is_refused_or_healed(labs: Labs, kind: str) -> None:
    assert lost(damage.exchanged(labs.lab, labs.other, kind)) == []


@pytest.mark.parametrize("kind", hostile.KINDS)
def test_a_hostile_dataset_is_refused_or_taken_for_what_it_is(labs: Labs, kind: str) -> None:
    assert lost(hostile.hostile(labs.lab, kind)) == []


def test_markup_is_shown_as_text(labs: Labs) -> None:
    assert lost(hostile.markup_in_the_report(labs.lab, 1, SEED)) == []


@pytest.mark.parametrize("name", fuzz.READERS)
def test_readers_give_what_was_written_or_a_sentence(labs: Labs, name: str) -> None:
    assert lost(fuzz.fuzzed(labs.lab, name, 25, SEED)) == []
