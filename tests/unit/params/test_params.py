"""The strict loader of params.yaml, and the schema by which editors check the file."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.params.loader import json_schema, load_params
from pipeline.params.schema import Params
from tests.import_closure import ROOT
from tests.refusals import refusal

PROFILES = sorted((ROOT / "profiles").glob("*.yaml"))
SAMPLE = ROOT / "profiles" / "sample.yaml"
FILES = [ROOT / "params.yaml", *PROFILES]
ABSENT = object()
SCHEMA = json_schema()


def load_text(folder: Path, text: str) -> Params:
    (folder / "params.yaml").write_text(text)
    return load_params(folder / "params.yaml")


def load_changed(folder: Path, key: str, value: object) -> Params:
    """The sample with another value of a key, which is dotted; JSON is YAML too."""
    content = section = YAML(typ="safe", pure=True).load(SAMPLE.read_text())
    *sections, last = key.split(".")
    for name in sections:
        section = section[name]
    section[last] = value
    if value is ABSENT:
        del section[last]
    return load_text(folder, json.dumps(content))


def load_with_rate(folder: Path, literal: str) -> Params:
    """The sample with `train.learning_rate` written as `literal`, in YAML's own words."""
    text = SAMPLE.read_text()
    assert text.count("learning_rate: 5.0e-4") == 1
    return load_text(folder, text.replace("learning_rate: 5.0e-4", f"learning_rate: {literal}"))


def test_a_file_becomes_typed_values(tmp_path: Path) -> None:
    params = load_changed(tmp_path, "runtime.model_cache", "models")
    assert (params.encoder.grid, params.encoder.revision) == (4, None)
    assert (params.train.captions_per_sequence, params.train.supervise_eos) == ("all", True)
    assert params.regions.requests[-1] == "Describe the whole image"
    assert type(params.data.max_megapixels) is float
    assert params.runtime.model_cache == Path("models")
    assert load_changed(tmp_path, "train.captions_per_sequence", 2).train.captions_per_sequence == 2


@pytest.mark.parametrize(("literal", "value"), [("1e-05", 0.00001), ("5E-4", 0.0005), ("1", 1.0)])
def test_numbers_are_those_of_yaml_1_2(tmp_path: Path, literal: str, value: float) -> None:
    """YAML 1.1 reads `1e-3`, and `1e-05` as DVC writes it, as text."""
    rate = load_with_rate(tmp_path, literal).train.learning_rate
    assert (rate, type(rate)) == (value, float)


WHOLE, RATE = "a whole number from", "a number above 0 to 1"
TARGETS = "a list of linear layers like q_proj, each once"
NOT_ALLOWED: list[tuple[str, list[object], str]] = [
    ("train.epochs", ["3", 1.5, True, None, 0], f"{WHOLE} 1 to 10000"),
    ("train.learning_rate", ["0.001", False, 0.0, 1.1, 10**400], RATE),
    ("train.ema_decay", [1.0], "a number from 0 to below 1"),
    ("train.supervise_eos", [1, "true"], "true or false"),
    ("train.captions_per_sequence", ["some", True, 0], f"{WHOLE} 1 to 1000000000 or all"),
    ("prompt.instruction", [3, "  "], "some words"),
    ("encoder.grid", ["4", 0], f"{WHOLE} 1 to 64 or null"),
    ("encoder.tokens", ["cls+mean", None], "patches, cls, cls+patches, mean"),
    ("data.max_megapixels", [0.0, 179], "a number above 0 to 178"),
    ("data.root", ["", "~/photos", "https://host/photos", "s3://bucket"], "a folder's path (no URL, no ~)"),
    ("data.pins", ["", "../pins.json", "folder/pins.json"], "the name of a file in data.root"),
    ("regions.requests", ["top left", ["top left", 3], []], "a list of text, not empty"),
    ("lora.targets", ["q_proj", [3], ["q_proj", "q_proj"], [""], ["self_attn.q_proj"], ["q*"]], TARGETS),
    ("lora", [{"rank": 8, "alpha": 16, "dropout": 0.0, "targets": []}], TARGETS),
    ("runtime.device", ["tpu", "cuda:"], "auto, cpu, cuda, cuda:N, mps"),
    ("runtime.model_cache", [3, ""], "text or null"),
]


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [(key, value, allowed) for key, values, allowed in NOT_ALLOWED for value in values],
    ids=lambda item: str(item)[:30],
)
def test_a_wrong_value_is_refused(tmp_path: Path, key: str, value: object, allowed: str) -> None:
    # A long value is shortened; what is wrong with the section lora is its list.
    named = "lora.targets is []" if key == "lora" else f"{key} is {repr(value)[:9]}"
    sentence = refusal(load_changed, tmp_path, key, value)
    assert sentence.startswith(f"{tmp_path / 'params.yaml'}: {named}")
    assert f"; allowed: {allowed}" in sentence


def test_a_learning_rate_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    refusal(load_with_rate, tmp_path, ".nan", match=rf"train\.learning_rate is nan; allowed: {RATE}")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("projector.hidden", 64, "unknown key projector.hidden; allowed here: hidden_size, standard"),
        ("training", {}, f"unknown key training; allowed here: {', '.join(SCHEMA['properties'])}."),
        ("train", ABSENT, "train is missing; compare the section with profiles/sample.yaml."),
        ("data.scenes.seed", ABSENT, "data.scenes.seed is missing; "),
        ("train", 3, "train is 3, expected a section of keys."),
    ],
)
def test_keys_are_those_of_the_sample(tmp_path: Path, key: str, value: object, message: str) -> None:
    sentence = refusal(load_changed, tmp_path, key, value)
    assert sentence.startswith(f"{tmp_path / 'params.yaml'}: {message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is None, expected a section"),
        ("[1, 2]", r"the file is \[1, 2\], expected a section"),
        ("1: 2", "unknown key"),
        ("[1, 2]: 3", "unknown key|not valid YAML"),
        ("train: {epochs: 1", "is not valid YAML"),
        ("train: 1\ntrain: 2\n", "is not valid YAML"),
        ("\udcff", "is not valid YAML"),
        (" " * 10**6 + "a: 1", "more than 1000000 bytes"),
    ],
    ids=lambda text: text[-20:],
)
def test_what_is_no_params_file_is_refused_on_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    assert "\n" not in refusal(load_params, path, match=rf"params\.yaml.*({message})")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    refusal(load_params, tmp_path / "nowhere.yaml", match=r"nowhere\.yaml does not exist")
    refusal(load_params, tmp_path, match="Is a directory")


# --- what editors know ------------------------------------------------------------------------------


def descriptions_of(node: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Dotted key -> description, of each key that has one."""
    descriptions = {}
    for name, child in node["properties"].items():
        if "description" in child:
            descriptions[f"{prefix}{name}"] = child["description"]
        if "$ref" in child:
            descriptions |= descriptions_of(
                SCHEMA["$defs"][child["$ref"].rpartition("/")[2]], f"{prefix}{name}."
            )
    return descriptions


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_key_has_its_description_as_comment(path: Path) -> None:
    load_params(path)
    comments, section = {}, ""
    for indent, key, comment in re.findall(r"^( *)(\w+):.*?(?: +# (.*))?$", path.read_text(), re.MULTILINE):
        section = section if indent else key
        comments[f"{section}.{key}" if indent else key] = comment
    assert comments == descriptions_of(SCHEMA)


def test_the_schema_is_that_of_the_classes() -> None:
    """Else: `make schema`."""
    assert json.loads((ROOT / "params.schema.json").read_text()) == SCHEMA


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_first_line_names_the_schema(path: Path) -> None:
    """The same line in both folders, since profiles are copied to params.yaml: profiles/ holds a link."""
    first = path.read_text().split("\n")[0].removeprefix("# yaml-language-server: $schema=")
    assert (path.parent / first).resolve() == ROOT / "params.schema.json"
