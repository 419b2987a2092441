"""dvc.yaml says what is true: of the code's imports, of params.yaml and of the parameters' classes."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any, cast

import pytest
from ruamel.yaml import YAML

from pipeline.params.loader import load_params
from pipeline.params.schema import Params
from pipeline.text.prompt import CaptionTokenizer
from pipeline.text.token_store import tokenize_captions
from tests.import_closure import ROOT, import_closure

STAGES = ("prepare", "encode", "tokenize", "train", "evaluate", "regions", "report")
# Rooms whose functions take all parameters, as `settings`, by the stage that calls them.
WHOLE = {"train": "training", "evaluate": "evaluation", "regions": "regions"}
# What a stage imports and does not depend on: no byte of its outputs can change.
NO_DEPENDENCY = ("pipeline/cluster/", "stages/errors.py")


def read_yaml(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    return content


@pytest.fixture(scope="module")
def flow() -> dict[str, Any]:
    return read_yaml(ROOT / "dvc.yaml")


def names(entries: list[Any]) -> list[str]:
    """The paths of deps or outs, which may carry options."""
    return [next(iter(e)) if isinstance(e, dict) else e for e in entries]


def test_there_are_the_seven_stages_in_order(flow: dict[str, Any]) -> None:
    assert tuple(flow["stages"]) == STAGES


def code_deps(flow: dict[str, Any], stage: str) -> list[str]:
    """Folders and files of the project's code that a stage depends on."""
    return [d for d in names(flow["stages"][stage]["deps"]) if d.startswith(("pipeline/", "stages/"))]


def imported(stage: str) -> set[str]:
    """The files that a stage's code rests on; `__init__.py` files hold a docstring alone."""
    return {
        path
        for path in import_closure(f"stages.{stage}")
        if not path.endswith("/__init__.py") and not path.startswith(NO_DEPENDENCY)
    }


def is_within(path: str, dep: str) -> bool:
    return path == dep or path.startswith(f"{dep}/")


@pytest.mark.parametrize("stage", STAGES)
def test_a_stages_deps_hold_all_code_it_imports(flow: dict[str, Any], stage: str) -> None:
    deps = code_deps(flow, stage)
    assert {path for path in imported(stage) if not any(is_within(path, dep) for dep in deps)} == set()


@pytest.mark.parametrize("stage", STAGES)
def test_a_stages_deps_name_no_code_without_need(flow: dict[str, Any], stage: str) -> None:
    files = imported(stage)
    deps = code_deps(flow, stage)
    assert [dep for dep in deps if not any(is_within(path, dep) for path in files)] == []
    assert len(deps) == len(set(deps))


def test_dvc_yaml_is_short(flow: dict[str, Any]) -> None:
    assert len((ROOT / "dvc.yaml").read_text(encoding="utf-8").splitlines()) < 200
    assert max(len(code_deps(flow, stage)) for stage in STAGES) <= 16


@pytest.mark.parametrize("stage", STAGES)
def test_every_data_dependency_is_an_earlier_stages_output(flow: dict[str, Any], stage: str) -> None:
    before: set[str] = set()
    for name in STAGES[: STAGES.index(stage)]:
        before |= set(names(flow["stages"][name]["outs"]))
    data = {
        d for d in names(flow["stages"][stage]["deps"]) if not d.startswith(("pipeline/", "stages/", "${"))
    }
    assert data <= before


def depends(flow: dict[str, Any], stage: str, path: str) -> bool:
    return any(is_within(path, dep) for dep in code_deps(flow, stage))


def test_stages_that_only_read_features_do_not_depend_on_the_encoder(flow: dict[str, Any]) -> None:
    for stage in ("tokenize", "train", "evaluate", "report"):
        assert not depends(flow, stage, "pipeline/vision/encoder.py")


@pytest.mark.parametrize("room", ["report", "export", "metrics", "evaluation", "regions", "cluster"])
def test_what_only_shows_or_uses_results_neither_encodes_nor_trains(flow: dict[str, Any], room: str) -> None:
    for stage in ("encode", "train"):
        assert not depends(flow, stage, f"pipeline/{room}/any.py")


def test_every_section_of_params_is_tracked_by_a_stage_except_runtime(flow: dict[str, Any]) -> None:
    tracked = {
        p.split(".")[0]
        for name in STAGES
        if name != "report"  # shows all of them
        for p in flow["stages"][name]["params"]
    }
    sections = {f.name for f in dataclasses.fields(Params)}
    assert tracked | {"report"} == sections - {"runtime"}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_tracks_the_sections_that_its_code_reads(flow: dict[str, Any], stage: str) -> None:
    files = [ROOT / "stages" / f"{stage}.py"]
    if stage in WHOLE:
        files += (ROOT / "pipeline" / WHOLE[stage]).glob("*.py")
    read = set().union(
        *(re.findall(r"\bsettings\.(\w+)", file.read_text(encoding="utf-8")) for file in files)
    )
    used = {f.name for f in dataclasses.fields(Params)} & read
    tracked = {p.split(".")[0] for p in flow["stages"][stage]["params"]}
    if stage == "report":
        # It is handed the params file and shows every section.
        assert tracked == {f.name for f in dataclasses.fields(Params)} - {"runtime"}
    else:
        assert tracked == used - {"runtime"}


@pytest.mark.parametrize("stage", STAGES)
def test_every_key_that_a_stage_tracks_exists_and_is_tracked_once(flow: dict[str, Any], stage: str) -> None:
    tracked = flow["stages"][stage]["params"]
    values = dataclasses.asdict(load_params(ROOT / "params.yaml"))
    for key in tracked:
        section, *rest = key.split(".")
        assert all(name in values[section] for name in rest)
        assert not rest or section not in tracked
    assert len(set(tracked)) == len(tracked)


class Recorded:
    """Parameters of a section that remember which of their keys are read."""

    def __init__(self, section: object) -> None:
        self._section = section
        self.read: set[str] = set()

    def __getattr__(self, key: str) -> Any:
        self.read.add(key)
        return getattr(self._section, key)


def test_a_stage_that_tracks_single_keys_reads_exactly_these(
    flow: dict[str, Any], tiny_params: Params, tmp_path: Path
) -> None:
    """The others track whole sections: of which keys they read nothing can be wrong."""
    single = {stage: {p for p in flow["stages"][stage]["params"] if "." in p} for stage in STAGES}
    prompt, language = Recorded(tiny_params.prompt), Recorded(tiny_params.language_model)
    record = {"image_id": "a", "split": "train", "captions": ["a dog"], "objects": []}
    (tmp_path / "captions.jsonl").write_text(json.dumps(record))
    tokenizer = CaptionTokenizer(cast(Any, prompt), cast(Any, language))
    tokenize_captions(
        tmp_path / "captions.jsonl", tmp_path / "tokens.h5", tokenizer, prompt.max_caption_tokens
    )
    assert prompt.read == {f.name for f in dataclasses.fields(tiny_params.prompt)}
    read = {f"language_model.{key}" for key in language.read}
    assert {stage: keys for stage, keys in single.items() if keys} == {"tokenize": read}


def test_no_output_survives_between_runs_of_other_parameters(flow: dict[str, Any]) -> None:
    """`persist` keeps the checkpoints of other parameters (and loses them under `dvc exp run`)."""
    assert "persist" not in (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    assert not any("always_changed" in s for s in flow["stages"].values())


def test_params_yaml_is_the_sample_profile() -> None:
    sample = (ROOT / "profiles" / "sample.yaml").read_bytes()
    assert (ROOT / "params.yaml").read_bytes() == sample


@pytest.mark.parametrize("profile", sorted((ROOT / "profiles").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_profile_loads(profile: Path) -> None:
    load_params(profile)


def test_the_report_profile_is_the_reports_configuration_to_the_letter() -> None:
    params = load_params(ROOT / "profiles" / "flickr8k-report.yaml")
    assert params.encoder.name == "openai/clip-vit-base-patch32"
    assert params.language_model.name == "meta-llama/Llama-3.2-1B"
    assert params.language_model.quantization == "nf4"
    assert params.projector.hidden_size == 2048
    assert params.projector.standardize is False
    assert params.projector.match_embedding_norm is False
    assert (params.train.batch_size, params.train.captions_per_pass) == (4, 1)
    assert params.train.learning_rate == 1e-4
    assert (params.train.epochs, params.train.clip_norm) == (3, 1.0)
    assert params.train.supervise_eos is False
    assert (params.runtime.num_workers, params.runtime.pin_memory) == (4, True)


def test_no_stage_depends_on_the_versions_of_packages(flow: dict[str, Any]) -> None:
    """An upgrade must not encode everything anew; README says what to do after one."""
    for stage in flow["stages"].values():
        assert not {d for d in names(stage["deps"]) if "requirements" in d or d.endswith(".toml")}
