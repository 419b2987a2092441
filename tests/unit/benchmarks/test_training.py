"""Both sides take the captions of a folder of photographs; when a loss is reached."""

import math
from pathlib import Path

from benchmarks.common import Task, save_captions, training_pairs
from tests.dataset_makers import NAMES, make_flickr8k
from tests.pictures import noise


def test_photographs_are_those_of_the_folder(tmp_path: Path) -> None:
    photos = make_flickr8k(tmp_path / "photos")
    for seed, name in enumerate(NAMES):
        noise(8, 8, seed).save(photos / "Flicker8k_Dataset" / name)
    save_captions(photos, 1, tmp_path)
    ((path, captions),) = training_pairs(tmp_path)
    assert path.is_relative_to(photos)
    assert captions[0].startswith("Caption 0 of")


def test_a_loss_is_reached_where_the_nearest_falling_curve_is_that_low() -> None:
    task = Task(Path(), "model", "cpu", to_loss=(3.0, 2.0))
    # A low step before higher ones is its images' luck: the curve is 4, then 2.5 for five steps, then 1.5.
    losses = [4.0, 1.0, 3.5, 2.0, 3.5, 2.5, 1.5]
    assert task.time_to_loss(losses, images=100, seconds=10) == {"s to 3": 20, "s to 2": 70}
    # A hundred images are two steps, and the last step alone is not enough; or more than there are.
    assert task.time_to_loss(losses, images=50, seconds=10) == {"s to 3": 20, "s to 2": math.inf}
    assert task.time_to_loss(losses, images=10, seconds=10) == {"s to 3": math.inf, "s to 2": math.inf}
    assert Task(Path(), "model", "cpu").time_to_loss(losses, 50, 10) == {}
