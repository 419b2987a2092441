"""The loader of params.yaml: every mistake is one sentence with file, key, value and what is allowed.

Run: .venv/bin/python -m pytest tests/unit/params/test_params.py
"""

import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.errors import PipelineError
from pipeline.params.loader import load_params
from pipeline.params.schema import Params

PROFILES = Path(__file__).resolve().parents[3] / "profiles"
SAMPLE = PROFILES / "sample.yaml"


@pytest.fixture
def content() -> dict[str, Any]:
    """What profiles/sample.yaml holds, to be spoilt."""
    loaded: dict[str, Any] = YAML(typ="safe", pure=True).load(SAMPLE.read_text())
    return loaded


def save(folder: Path, content: object) -> Path:
    """A params file; JSON is YAML too."""
    path = folder / "params.yaml"
    path.write_text(json.dumps(content))
    return path


def put(content: dict[str, Any], dotted: str, value: object) -> None:
    *sections, key = dotted.split(".")
    for section in sections:
        content = content[section]
    content[key] = value


def load_changed(folder: Path, content: dict[str, Any], dotted: str, value: object) -> Params:
    put(content, dotted, value)
    return load_params(save(folder, content))


def load_with_rate(folder: Path, literal: str) -> Params:
    """The sample with `train.learning_rate` written as `literal`, in YAML's own words."""
    text = SAMPLE.read_text()
    assert text.count("learning_rate: 4.0e-3") == 1
    path = folder / "params.yaml"
    path.write_text(text.replace("learning_rate: 4.0e-3", f"learning_rate: {literal}"))
    return load_params(path)


@pytest.mark.parametrize("profile", sorted(PROFILES.glob("*.yaml")), ids=lambda path: path.name)
def test_each_profile_loads(profile: Path) -> None:
    assert isinstance(load_params(profile), Params)


def test_a_file_becomes_typed_values(content: dict[str, Any], tmp_path: Path) -> None:
    params = load_params(save(tmp_path, content))
    assert params == load_params(SAMPLE)
    assert params.encoder.grid == 4
    assert params.encoder.revision is None
    assert params.train.captions_per_pass == "all"
    assert params.regions.requests[-1] == "Describe the whole image"
    assert params.train.supervise_eos is True


def test_captions_per_pass_may_be_a_number(content: dict[str, Any], tmp_path: Path) -> None:
    assert load_changed(tmp_path, content, "train.captions_per_pass", 2).train.captions_per_pass == 2


@pytest.mark.parametrize(
    ("literal", "value"), [("1e-3", 0.001), ("1e-05", 0.00001), ("5E-4", 0.0005), ("1", 1.0), (".5", 0.5)]
)
def test_numbers_are_those_of_yaml_1_2(tmp_path: Path, literal: str, value: float) -> None:
    """YAML 1.1 reads `1e-3`, and `1e-05` as DVC writes it, as text."""
    rate = load_with_rate(tmp_path, literal).train.learning_rate
    assert rate == value
    assert type(rate) is float


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("train.epochs", "3", "a whole number"),
        ("train.epochs", 1.5, "a whole number"),
        ("train.epochs", True, "a whole number"),
        ("train.epochs", None, "a whole number"),
        ("train.epochs", [3], "a whole number"),
        ("train.learning_rate", "0.001", "a number"),
        ("train.learning_rate", False, "a number"),
        ("train.learning_rate", None, "a number"),
        ("train.supervise_eos", 1, "true or false"),
        ("train.supervise_eos", "true", "true or false"),
        ("train.captions_per_pass", "some", "a whole number or all"),
        ("train.captions_per_pass", True, "a whole number or all"),
        ("train.schedule", "linear", "constant, cosine"),
        ("prompt.instruction", 3, "text"),
        ("encoder.revision", 7, "text or null"),
        ("encoder.grid", "4", "a whole number or null"),
        ("encoder.tokens", "cls+mean", "patches, cls, cls+patches, mean"),
        ("encoder.tokens", None, "patches, cls, cls+patches, mean"),
        ("data.limits.train", "all", "a whole number or null"),
        ("regions.requests", "top left", "a list of text"),
        ("lora.rank", 8.0, "a whole number"),
        ("lora.alpha", "16", "a number"),
        ("lora.targets", "q_proj", "a list of text"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(
    tmp_path: Path, content: dict[str, Any], key: str, value: object, allowed: str
) -> None:
    with pytest.raises(PipelineError) as caught:
        load_changed(tmp_path, content, key, value)
    assert str(caught.value) == f"{tmp_path / 'params.yaml'}: {key} is {value!r}; allowed: {allowed}."


def test_an_item_of_the_wrong_type_is_refused(tmp_path: Path, content: dict[str, Any]) -> None:
    with pytest.raises(PipelineError, match=r"regions\.requests is 3; allowed: text\."):
        load_changed(tmp_path, content, "regions.requests", ["top left", 3])


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("data.limits.dev", 0, "a whole number from 1, or null"),
        ("data.max_megapixels", 0.0, "above 0, to 178"),
        ("data.root", "", "a folder, relative to the project or absolute"),
        ("data.scenes.test", 0, "1 to 100000"),
        ("data.scenes.image_size", 63, "64 to 1024"),
        ("encoder.grid", 0, "1 to 64, or null"),
        ("prompt.instruction", "  ", "some words"),
        ("prompt.max_caption_tokens", 513, "1 to 512"),
        ("projector.hidden_size", 0, "1 to 65536"),
        ("projector.dropout", 1.0, "0 to below 1"),
        ("lora.rank", -1, "0 (off) to 1024"),
        ("lora.alpha", 0.0, "above 0, to 65536"),
        ("lora.dropout", 1.0, "0 to below 1"),
        ("train.epochs", 0, "1 to 10000"),
        ("train.batch_size", -1, "1 to 4096"),
        ("train.captions_per_pass", 0, "all, or a whole number from 1"),
        ("train.gradient_accumulation_steps", 0, "1 to 4096"),
        ("train.learning_rate", 0.0, "above 0, to 1"),
        ("train.learning_rate", 1.1, "above 0, to 1"),
        ("train.weight_decay", -0.1, "0 to 1"),
        ("train.warmup_steps", -1, "0 or more"),
        ("train.clip_norm", 0.0, "above 0"),
        ("train.ema_decay", 1.0, "0 (off) to below 1"),
        ("generate.beams", 0, "1 (greedy) to 32"),
        ("generate.max_new_tokens", 0, "null, 1 to 512"),
        ("generate.no_repeat_ngram_size", -1, "0 (off) to 16"),
        ("regions.images", 0, "1 to 10000"),
        ("report.examples", 0, "1 to 500"),
        ("report.region_images", -1, "0 to 200"),
        ("runtime.device", "tpu", "auto, cpu, cuda, cuda:N, mps"),
        ("runtime.num_workers", -1, "0 to 256"),
        ("runtime.encode_batch_size", 0, "1 to 4096"),
        ("runtime.save_every_seconds", 0.0, "above 0"),
    ],
)
def test_a_value_out_of_range_is_refused(
    tmp_path: Path, content: dict[str, Any], key: str, value: object, allowed: str
) -> None:
    with pytest.raises(PipelineError) as caught:
        load_changed(tmp_path, content, key, value)
    assert str(caught.value) == f"{tmp_path / 'params.yaml'}: {key} is {value!r}; allowed: {allowed}."


@pytest.mark.parametrize("literal", [".nan", ".inf"])
def test_a_learning_rate_that_is_not_finite_is_refused(tmp_path: Path, literal: str) -> None:
    with pytest.raises(PipelineError, match=r"train\.learning_rate is (nan|inf); allowed: a number"):
        load_with_rate(tmp_path, literal)


def test_no_region_requests_are_refused(tmp_path: Path, content: dict[str, Any]) -> None:
    with pytest.raises(PipelineError, match=r"regions\.requests is \(\); allowed: at least one request"):
        load_changed(tmp_path, content, "regions.requests", [])


@pytest.mark.parametrize("targets", [["q_proj", "q_proj"], [""], ["self_attn.q_proj"], ["q*"], []])
def test_lora_targets_that_are_no_names_are_refused(
    tmp_path: Path, content: dict[str, Any], targets: list[str]
) -> None:
    put(content, "lora.rank", 8)
    with pytest.raises(PipelineError, match=r"lora\.targets is \(.*\); allowed: names of linear layers"):
        load_changed(tmp_path, content, "lora.targets", targets)


def test_an_unknown_key_is_named_beside_the_known(tmp_path: Path, content: dict[str, Any]) -> None:
    with pytest.raises(PipelineError) as caught:
        load_changed(tmp_path, content, "projector.hidden_sizes", 64)
    assert str(caught.value) == (
        f"{tmp_path / 'params.yaml'}: unknown key projector.hidden_sizes; "
        "allowed here: hidden_size, standardize, match_embedding_norm, dropout."
    )


def test_an_unknown_section_is_named(tmp_path: Path, content: dict[str, Any]) -> None:
    with pytest.raises(PipelineError, match=r"unknown key training; allowed here: data, encoder, prompt"):
        load_changed(tmp_path, content, "training", {})


@pytest.mark.parametrize("key", ["train", "train.epochs", "data.scenes.seed"])
def test_a_missing_key_is_named(tmp_path: Path, content: dict[str, Any], key: str) -> None:
    section = content
    *sections, last = key.split(".")
    for name in sections:
        section = section[name]
    del section[last]
    with pytest.raises(PipelineError) as caught:
        load_params(save(tmp_path, content))
    assert str(caught.value) == (
        f"{tmp_path / 'params.yaml'}: {key} is missing; compare the section with profiles/sample.yaml."
    )


@pytest.mark.parametrize("value", [["epochs", 3], 3, "epochs: 3", None])
def test_a_section_that_is_none_is_refused(tmp_path: Path, content: dict[str, Any], value: object) -> None:
    with pytest.raises(PipelineError) as caught:
        load_changed(tmp_path, content, "train", value)
    assert str(caught.value) == (
        f"{tmp_path / 'params.yaml'}: train is {value!r}, expected a section of keys."
    )


@pytest.mark.parametrize("text", ["", "[1, 2]", "just words"])
def test_a_file_without_sections_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(PipelineError, match=r"params\.yaml: the file is .*, expected a section of keys"):
        load_params(path)


@pytest.mark.parametrize("text", ["train: {epochs: 1", "a: 1\n b: 2", "train: 1\ntrain: 2\n", "\t- x: ["])
def test_what_is_not_yaml_is_refused_on_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(PipelineError, match=r"params\.yaml is not valid YAML") as caught:
        load_params(path)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(b"\xff\xfe\x80")
    with pytest.raises(PipelineError, match=r"params\.yaml is not valid YAML"):
        load_params(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"nowhere\.yaml does not exist; run from the project's root"):
        load_params(tmp_path / "nowhere.yaml")
