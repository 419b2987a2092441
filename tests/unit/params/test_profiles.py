"""The profiles of the real run: what each is for, and that it fits the card that it is meant for.

Run: .venv/bin/python -m pytest tests/unit/params/test_profiles.py
"""

import re
from dataclasses import asdict
from typing import Any

import pytest

from benchmarks.calculated import (
    ALLOWED,
    CARDS,
    PROFILES,
    batch_table,
    profile,
    profile_table,
    step_memory,
    time_table,
)
from pipeline.params.schema import Params
from tests.import_closure import ROOT

FOLDER = ROOT / "profiles"
# What a variant of the recipe is for; everything else is the recipe's.
BATCH = {"train.batch_size", "train.gradient_accumulation_steps"}
VARIANTS = {
    "flickr8k-16gb": BATCH
    | {"runtime.encode_batch_size", "runtime.generate_batch_size", "runtime.num_workers"},
    "flickr8k-vit-l14": BATCH | {"encoder.name", "encoder.revision", "runtime.encode_batch_size"},
    "flickr8k-lora": BATCH | {"lora.rank", "lora.dropout", "train.learning_rate"},
}


def flat(section: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys and their values."""
    keys: dict[str, Any] = {}
    for name, value in section.items():
        keys |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return keys


@pytest.fixture(scope="module")
def estimates() -> dict[str, float]:
    return {name: step_memory(profile(name)) for name in PROFILES}


def test_every_profile_of_flickr8k_has_a_card() -> None:
    assert {path.stem for path in FOLDER.glob("flickr8k*.yaml")} == set(PROFILES)


@pytest.mark.parametrize("name", PROFILES)
def test_a_step_fits_the_card_with_a_margin(name: str, estimates: dict[str, float]) -> None:
    assert estimates[name] <= ALLOWED * CARDS[PROFILES[name]]


def test_the_larger_card_is_needed_for_the_larger_batch(estimates: dict[str, float]) -> None:
    assert estimates["flickr8k-16gb"] > ALLOWED * CARDS[8]


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_differs_from_the_recipe_in_what_it_is_for_alone(name: str) -> None:
    recipe, variant = flat(asdict(profile("flickr8k"))), flat(asdict(profile(name)))
    assert {key for key in recipe if recipe[key] != variant[key]} == VARIANTS[name]


@pytest.mark.parametrize("name", VARIANTS)
def test_a_step_of_a_variant_has_as_many_images_as_one_of_the_recipe(name: str) -> None:
    def images(params: Params) -> int:
        return params.train.batch_size * params.train.gradient_accumulation_steps

    assert images(profile(name)) == images(profile("flickr8k"))


@pytest.mark.parametrize("name", PROFILES)
def test_models_are_pinned_to_a_commit(name: str) -> None:
    for model in (profile(name).encoder, profile(name).language_model):
        assert model.revision is not None
        assert re.fullmatch("[0-9a-f]{40}", model.revision)


def test_the_pages_have_the_calculated_tables_of_now() -> None:
    """Else: `python -m benchmarks.calculated`."""
    pages = "".join(
        (ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("flickr8k.md", "performance.md")
    )
    for table in (batch_table(), profile_table(), time_table()):
        assert table in pages
