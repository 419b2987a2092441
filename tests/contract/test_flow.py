"""dvc.yaml says what is true: of the code's imports, of params.yaml and of the parameters' classes.

Run: .venv/bin/python -m pytest tests/contract/test_flow.py
"""

import dataclasses
import json
import re
import tomllib
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, cast

import pytest
from ruamel.yaml import YAML

from pipeline.params.loader import load_params
from pipeline.params.schema import Params
from pipeline.text.prompt import CaptionTokenizer
from pipeline.text.token_store import tokenize_captions
from pipeline.training.provenance import dataset_identity
from tests.import_closure import ROOT, import_closure


def read_yaml(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    return content


FLOW = ROOT / "dvc.yaml"
STAGES: dict[str, dict[str, Any]] = read_yaml(FLOW)["stages"]
SECTIONS = {field.name for field in dataclasses.fields(Params)}
# Says how a run is carried out: it changes no result, and no stage tracks it.
UNTRACKED = {"runtime"}
# What a stage imports and does not depend on: it cannot change a byte of the outputs.
NO_DEPENDENCY = ("pipeline/cluster/", "stages/errors.py")
# Rooms whose functions take all parameters, as `settings`, by the stage that calls them.
WHOLE = {"train": "training", "evaluate": "evaluation", "regions": "regions"}


def paths(stage: str, entries: str) -> list[str]:
    """The paths of a stage's deps or outs, which may carry options."""
    return [next(iter(e)) if isinstance(e, dict) else e for e in STAGES[stage].get(entries, [])]


def code_deps(stage: str) -> list[str]:
    return [path for path in paths(stage, "deps") if path.startswith(("pipeline/", "stages/"))]


def imported(stage: str) -> set[str]:
    """The files that a stage's code rests on."""
    return {path for path in import_closure(f"stages.{stage}") if not path.startswith(NO_DEPENDENCY)}


def is_within(path: str, dep: str) -> bool:
    return path == dep or path.startswith(f"{dep}/")


def tracked_sections(stage: str) -> set[str]:
    return {key.split(".")[0] for key in STAGES[stage].get("params", [])}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stages_deps_are_the_code_it_imports(stage: str) -> None:
    deps, files = code_deps(stage), imported(stage)
    assert {path for path in files if not any(is_within(path, dep) for dep in deps)} == set()
    assert [dep for dep in deps if not any(is_within(path, dep) for path in files)] == []
    assert len(deps) == len(set(deps))


def test_every_data_dependency_is_an_earlier_stages_output() -> None:
    before = {"params.yaml"}
    for stage in STAGES:
        data = {dep for dep in paths(stage, "deps") if not dep.startswith("${")} - {*code_deps(stage)}
        assert data <= before, stage
        before |= {*paths(stage, "outs")}


def test_neither_old_outputs_nor_versions_of_packages_decide_what_runs() -> None:
    """`persist` keeps the checkpoints of other parameters; an upgrade must not encode everything again."""
    assert not re.search(r"persist|always_changed|requirements|\.toml", FLOW.read_text(encoding="utf-8"))


def test_check_runs_after_every_change_of_params_yaml_and_all_others_wait_for_it() -> None:
    """`params` would say which keys; a mistake can be in any, and a missing key has no name there."""
    assert "params.yaml" in paths("check", "deps")
    assert [stage for stage in STAGES if "data/checked" not in paths(stage, "deps")] == ["check"]


def test_stages_track_the_sections_that_their_code_reads() -> None:
    """The report shows every section and alone reads its own; `check` depends on the whole file."""
    tracked = {"report"}
    for stage in STAGES:
        room = ROOT / "pipeline" / WHOLE.get(stage, "-")
        files = [ROOT / "stages" / f"{stage}.py", *room.glob("*.py")]
        code = "".join(file.read_text(encoding="utf-8") for file in files)
        read = (
            SECTIONS if stage == "report" else SECTIONS.intersection(re.findall(r"\bsettings\.(\w+)", code))
        )
        assert tracked_sections(stage) == (set() if stage == "check" else read - UNTRACKED), stage
        tracked |= set() if stage == "report" else tracked_sections(stage)
    assert tracked == SECTIONS - UNTRACKED


class Recorded:
    """Parameters of a section that remember which of their keys are read."""

    def __init__(self, section: object) -> None:
        self._section = section
        self.read: set[str] = set()

    def __getattr__(self, key: str) -> Any:
        self.read.add(key)
        return getattr(self._section, key)


def test_a_stage_that_tracks_single_keys_reads_exactly_these(tiny_params: Params, tmp_path: Path) -> None:
    """Other stages track whole sections, so no key can be missing."""
    captions = tmp_path / "captions.jsonl"
    captions.write_text(json.dumps({"image_id": "a", "split": "train", "captions": ["a dog"], "objects": []}))
    language = Recorded(tiny_params.language_model)
    tokenizer = CaptionTokenizer(tiny_params.prompt, cast(Any, language))
    tokenize_captions(captions, tmp_path / "tokens.h5", tokenizer)
    datasets = [Recorded(replace(tiny_params.data, source=source)) for source in ("hub", "jsonl")]
    for dataset in datasets:
        dataset_identity(cast(Any, dataset))
    single = {stage: {key for key in STAGES[stage].get("params", []) if "." in key} for stage in STAGES}
    assert single.pop("tokenize") == {f"language_model.{key}" for key in language.read}
    assert single.pop("retrieve") == {"prompt.similar_captions"}
    assert single.pop("train") == {f"data.{key}" for dataset in datasets for key in dataset.read}
    assert not any(single.values())


def test_params_yaml_is_the_sample_profile() -> None:
    assert (ROOT / "params.yaml").read_bytes() == (ROOT / "profiles" / "sample.yaml").read_bytes()


def test_the_report_profile_is_the_reports_configuration_to_the_letter() -> None:
    params = load_params(ROOT / "profiles" / "flickr8k-report.yaml")
    train, language, projector = params.train, params.language_model, params.projector
    assert params.encoder.name == "openai/clip-vit-base-patch32"
    assert (language.name, language.quantization) == ("meta-llama/Llama-3.2-1B", "nf4")
    assert projector.hidden_size == 2048
    assert not any((projector.standardize, projector.match_embedding_norm))
    assert (train.epochs, train.batch_size, train.captions_per_sequence) == (3, 4, 1)
    assert (train.learning_rate, train.clip_norm, train.supervise_eos) == (1e-4, 1.0, False)
    assert (params.runtime.num_workers, params.runtime.pin_memory) == (4, True)


def test_the_least_version_of_every_dependency_is_one_that_was_tested() -> None:
    """treeverse/dvc#10948: an old dvc was allowed that a newer library had broken."""
    locked = dict(
        line.lower().split("==")
        for name in ("requirements.lock", "requirements-ray.lock")
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines()
        if "==" in line
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = chain.from_iterable(project["optional-dependencies"].values())
    least = dict(re.sub(r"\[.*\]", "", line).split(">=") for line in [*project["dependencies"], *extras])
    assert least.pop("torch") == "2.11"  # on a GPU
    assert least.pop("pillow-heif") == "1.8.1"  # in an environment that has it; no other needs it
    assert least == {name: locked[name] for name in least}
