"""The profiles: what each is for, and that one of the real run fits the card that it is meant for."""

import math
import re
from dataclasses import asdict
from typing import Any

import pytest

from benchmarks import calculated
from benchmarks.calculated import ALLOWED, CARDS, PROFILES, step_memory
from benchmarks.common import profile
from tests.import_closure import ROOT

# What a variant of the recipe is for; everything else is the recipe's.
BATCH = {"train.batch_size", "train.gradient_accumulation_steps"}
VARIANTS = {
    "flickr8k-16gb": BATCH | {"runtime.num_workers"},
    "flickr8k-vit-l14": BATCH | {"encoder.name", "encoder.revision"},
    "flickr8k-lora": BATCH | {"lora.rank", "lora.dropout", "train.learning_rate"},
}


def flat(section: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys and their values."""
    keys: dict[str, Any] = {}
    for name, value in section.items():
        keys |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return keys


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_differs_from_the_recipe_only_in_its_purpose_with_as_many_images_a_step(name: str) -> None:
    recipe, variant = flat(asdict(profile("flickr8k"))), flat(asdict(profile(name)))
    assert {key for key in recipe if recipe[key] != variant[key]} == VARIANTS[name]
    assert len({math.prod(params[key] for key in BATCH) for params in (recipe, variant)}) == 1


@pytest.mark.parametrize("name", PROFILES)
def test_models_are_pinned_to_a_commit(name: str) -> None:
    for model in (profile(name).encoder, profile(name).language_model):
        assert re.fullmatch("[0-9a-f]{40}", str(model.revision))


@pytest.mark.slow
def test_a_step_fits_the_card_with_a_margin() -> None:
    memory = {name: step_memory(profile(name)) for name in PROFILES}
    assert [name for name in PROFILES if memory[name] > ALLOWED * CARDS[PROFILES[name]]] == []
    assert memory["flickr8k-16gb"] > ALLOWED * CARDS[8], "the larger card is not needed"


@pytest.mark.slow
def test_the_pages_have_the_calculated_tables_of_now() -> None:
    """Else: `python -m benchmarks.calculated`."""
    pages = [(ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("flickr8k.md", "performance.md")]
    for table in (calculated.batch_table(), calculated.profile_table(), calculated.time_table()):
        assert table in "".join(pages)
