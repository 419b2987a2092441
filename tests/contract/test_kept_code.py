"""Kept work is found only by the code that made it: what shapes it is in the list beside its facts.

Run: .venv/bin/python -m pytest tests/contract/test_kept_code.py
"""

from types import ModuleType
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.evaluation import predictor
from pipeline.regions import caption_regions
from pipeline.training import train
from tests.import_closure import ROOT, import_closure

KEPT: dict[str, tuple[ModuleType, ...]] = {
    "train": train.CODE,
    "evaluate": predictor.CODE,
    "regions": caption_regions.CODE,
}
# Modules that a stage imports and that shape nothing of what it keeps, and why not.
HOW_IT_IS_CARRIED_OUT = {
    "__init__": "names what the package offers",
    "allocator": "how memory is freed",
    "code_digest": "it is what compares",
    "device": "the precision that it chooses is a fact",
    "disk": "errors of the disk",
    "errors": "errors",
    "fact_differences": "for sentences",
    "hub": "fetches models, whose weights' digests are facts",
    "kept_rows": "keeps, under checksums",
    "locks": "one run at a time",
    "models": "finds models, whose weights' digests are facts",
    "params": "their values are facts",
    "params_loader": "their values are facts",
    "partial_work": "writes files",
    "progress": "bars",
    "records": "reads and writes files",
    "safetensors_files": "reads weights, whose digests are facts",
    "wheels": "finds weights, whose digests are facts",
}
READS_FEATURES = {
    "feature_checksums": "the digest of the features is a fact",
    "feature_store": "the digest of the features is a fact",
    "features_digest": "the digest of the features is a fact",
    "hdf5_text": "the digest of the features is a fact",
}
FROM_WHAT_IS_KEPT = "made anew in every run, from what is kept"
EXCUSED: dict[str, dict[str, str]] = {
    "train": {
        **HOW_IT_IS_CARRIED_OUT,
        **READS_FEATURES,
        "captions": "the digest of the tokens is a fact",
        "compilation": "how layers are run, which `runtime` decides",
        "free_memory": "how much memory there is",
        "kept_trainings": "for a sentence",
        "memory": "an estimate",
        "prefetch": "when steps are prepared",
        "prompt": "the digest of the tokens, the prompt's among them, is a fact",
        "token_store": "the digest of the tokens is a fact",
        "training_cost": "a measurement",
        "training_facts": "names the facts",
        "training_features": "the digest of the features is a fact",
        "training_outputs": FROM_WHAT_IS_KEPT,
    },
    "evaluate": {
        **HOW_IT_IS_CARRIED_OUT,
        **READS_FEATURES,
        "captions": "images and captions are facts",
        "evaluation": FROM_WHAT_IS_KEPT,
        "fixed_files": "the digest of the checkpoint is a fact",
        **dict.fromkeys(
            (
                "metrics.__init__",
                "metrics.bleu",
                "metrics.bootstrap",
                "metrics.cider",
                "metrics.colors",
                "metrics.controls",
                "metrics.headline",
                "metrics.rouge",
                "metrics.scene_truth",
                "metrics.scores",
                "metrics.token_characters",
                "metrics.token_patterns",
                "metrics.tokenizer",
            ),
            FROM_WHAT_IS_KEPT,
        ),
    },
    "regions": {
        **HOW_IT_IS_CARRIED_OUT,
        "captions": "images and requests are facts",
        "fixed_files": "the digest of the checkpoint is a fact",
        "metrics.__init__": FROM_WHAT_IS_KEPT,
        "metrics.scene_truth": FROM_WHAT_IS_KEPT,
        "region_words": "the boxes that words become are facts",
    },
}


def listed(stage: str) -> set[str]:
    """Names in `pipeline` of the modules in a stage's list."""
    return {module.__name__.removeprefix("pipeline.") for module in KEPT[stage]}


def imported(stage: str) -> set[str]:
    """Names in `pipeline` of all modules that a stage rests on."""
    paths = import_closure(f"stages.{stage}")
    names = {path.removesuffix(".py").replace("/", ".") for path in paths}
    return {name.removeprefix("pipeline.") for name in names if name.startswith("pipeline.")}


@pytest.mark.parametrize("stage", KEPT)
def test_every_module_that_a_stage_imports_is_listed_or_excused(stage: str) -> None:
    assert listed(stage) <= imported(stage)
    assert imported(stage) - listed(stage) - EXCUSED[stage].keys() == set()
    assert not listed(stage) & EXCUSED[stage].keys()
    assert len(listed(stage)) == len(KEPT[stage])


def test_no_excuse_is_left_of_a_module_that_is_gone() -> None:
    for stage, excused in EXCUSED.items():
        own = excused.keys() - HOW_IT_IS_CARRIED_OUT.keys()
        assert own - imported(stage) == set()
    assert HOW_IT_IS_CARRIED_OUT.keys() <= set().union(*map(imported, KEPT))


@pytest.mark.parametrize("stage", KEPT)
def test_the_code_of_kept_work_is_within_what_dvc_runs_the_stage_for(stage: str) -> None:
    flow: Any = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    deps = {dep for dep in flow["stages"][stage]["deps"] if isinstance(dep, str)}
    assert {f"pipeline/{name.replace('.', '/')}.py" for name in listed(stage)} <= deps
