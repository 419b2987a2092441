"""Kept work is found only by the code that made it: what shapes it is in the stage's `ResultCode`.

Run: .venv/bin/python -m pytest tests/contract/test_result_code.py
"""

import pytest

from pipeline.result_code import CONTROLS, ENCODE, EVALUATE, PIPELINE, REGIONS, TRAIN, ResultCode
from tests.edited_code import edited_code
from tests.import_closure import import_closure

KEPT = {
    "stages.encode": ENCODE,
    "stages.train": TRAIN,
    "stages.evaluate": EVALUATE,
    "pipeline.evaluation.controls": CONTROLS,
    "stages.regions": REGIONS,
}
# What stages import and what shapes nothing of what they keep, and why not. Rooms, or single files where the
# stage counts others of their room. First what every stage is excused, then what one is.
EVERYWHERE = {
    "captions.py": "images, captions and requests are compared",
    "errors.py": "errors",
    "files": "reads and writes files",
    "params": "the values are compared",
    "pretrained": "finds models, whose weights' digests are compared",
    "result_code.py": "it is what compares",
}
AGAIN = "computed again in every run, from what is kept"
JUDGE = {
    f"metrics/{name}.py": AGAIN
    for name in ("bleu", "bootstrap", "colors", "controls", "rouge", "scene_truth", "scores")
}
EXCUSED = {
    "stages.encode": {
        "cluster": "writes the same bytes",
        "features": AGAIN,
        "hardware": "encoders compute in float32 on every device",
    },
    "stages.train": {
        "features": "their digest is compared",
        "hardware/compilation.py": "a training continues compiled or not",
        "hardware/device.py": "a training continues on another device",
        "hardware/execution.py": "carries values",
        "hardware/memory.py": "says where features lie, not what they are",
        "hardware/progress.py": "draws bars",
        "hardware/tracking.py": "tells others what was computed",
        "retrieval": "neighbors are compared",
        "text/token_store.py": "the digest of the tokens is compared",
    },
    "stages.evaluate": {
        "evaluation/answers.py": AGAIN,
        "evaluation/choice.py": AGAIN,
        "evaluation/controls.py": "stores its own work",
        "evaluation/evaluate.py": AGAIN,
        "evaluation/metrics_files.py": AGAIN,
        "features": "their digest is compared",
        "hardware": "the precision that it chooses is compared",
        **JUDGE,
        "retrieval/nearest.py": "neighbors are compared",
    },
    "pipeline.evaluation.controls": {
        "hardware/progress.py": "draws bars",
        "retrieval": "neighbors are compared",
    },
    "stages.regions": {
        "hardware": "the precision that it chooses is compared",
        "metrics/scene_truth.py": AGAIN,
    },
}


def imported(module: str) -> set[str]:
    """Paths in `pipeline/` of the modules that a module rests on."""
    closure = import_closure(module)
    return {path.removeprefix("pipeline/") for path in closure if path.startswith("pipeline/")}


def with_rooms(paths: set[str]) -> set[str]:
    return paths | {path.split("/")[0] for path in paths}


@pytest.mark.parametrize("module", KEPT)
def test_every_module_that_a_stage_imports_counts_or_is_excused(module: str) -> None:
    code = KEPT[module]
    others = imported(module) - set(code.digests()) - code.without.keys()
    excuses = EVERYWHERE.keys() | EXCUSED[module].keys()
    assert {path for path in others if not with_rooms({path}) & excuses} == set()
    assert excuses & with_rooms(set(code.digests())) == set(), (
        "of a room that counts in part, files are excused"
    )
    assert EXCUSED[module].keys() - with_rooms(others) == set(), "excused, and not imported"
    assert set(code.digests()) <= imported(module)
    assert [name for name in (*code.without, *EVERYWHERE) if not (PIPELINE / name).exists()] == []


@pytest.mark.parametrize("code", KEPT.values(), ids=KEPT)
def test_an_edit_changes_the_digest_unless_it_is_left_out(code: ResultCode) -> None:
    before = code.digests()
    for name in code.without:
        with edited_code(name):
            assert code.digests() == before, name
    for name in code.digests():
        with edited_code(name):
            changed = code.digests()
        assert {key for key in before if changed[key] != before[key]} == {name}
