"""Kept work is found only by the code that made it: what shapes it is in the stage's `ResultCode`.

Run: .venv/bin/python -m pytest tests/contract/test_result_code.py
"""

import pytest

from pipeline.result_code import CONTROLS, ENCODE, EVALUATE, PIPELINE, REGIONS, TRAIN, ResultCode
from tests.edited_code import EditCode
from tests.import_closure import import_closure

KEPT = {
    "stages.encode": ENCODE,
    "stages.train": TRAIN,
    "stages.evaluate": EVALUATE,
    "pipeline.evaluation.controls": CONTROLS,
    "stages.regions": REGIONS,
}
# Rooms and files that a stage imports and that shape nothing of what it keeps, and why not.
EXCUSED = {
    "__init__.py": "names what the package offers",
    "captions.py": "images, captions and requests are compared",
    "cluster": "writes the same bytes",
    "encoding": "the features are compared",
    "errors.py": "errors",
    "evaluation": "scores are computed again in every run, from what is kept",
    "features": "the digest of the features is compared",
    "files": "reads and writes files",
    "hardware": "the precision that it chooses is compared",
    "images": "the features are compared",
    "metrics": "scores are computed again in every run, from what is kept",
    "params": "the values are compared",
    "pretrained": "finds models, whose weights' digests are compared",
    "result_code.py": "it is what compares",
    "text": "the digest of the tokens is compared",
}


def imported(module: str) -> set[str]:
    """Paths in `pipeline/` of all modules that a module rests on."""
    paths = import_closure(module)
    return {path.removeprefix("pipeline/") for path in paths if path.startswith("pipeline/")}


def room(path: str) -> str:
    return path.split("/")[0]


@pytest.mark.parametrize("module", KEPT)
def test_every_module_that_a_stage_imports_counts_or_is_excused(module: str) -> None:
    code = KEPT[module]
    others = imported(module) - set(code.files()) - code.without.keys()
    named = {name for name in code.rooms if not name.endswith(".py")}
    assert {path for path in others if not path.endswith("/__init__.py") and room(path) in named} == set()
    assert {room(path) for path in others} - named - EXCUSED.keys() == set()


@pytest.mark.parametrize("module", KEPT)
def test_what_counts_is_imported_and_what_is_left_out_is_there(module: str) -> None:
    code = KEPT[module]
    assert set(code.files()) <= imported(module)
    assert {name for name in code.without if not (PIPELINE / name).is_file()} == set()


def test_no_excuse_is_left_of_a_room_that_is_gone() -> None:
    assert {name for name in EXCUSED if not (PIPELINE / name).exists()} == set()


@pytest.mark.parametrize("code", KEPT.values(), ids=KEPT)
def test_an_edit_changes_the_digest_unless_the_file_is_left_out(
    code: ResultCode, edit_code: EditCode
) -> None:
    before = code.digests()
    for name in code.without:
        with edit_code(name):
            assert code.digests() == before, name
    for name in code.files():
        with edit_code(name):
            changed = code.digests()
        assert {key for key in before if changed[key] != before[key]} == {name}
