"""The fault suite in short: `make faults` runs it in full."""

import pytest

from tests.faults import damage, full_disk, fuzz, hostile, kills, together
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
