"""The generated scenes: reproducible, independent of each other, and as their descriptions say.

Run: .venv/bin/python -m pytest tests/unit/datasets/test_scenes.py
"""

import itertools
from pathlib import Path

import numpy as np
import pytest

from pipeline.captions import CaptionRecord, SceneObject
from pipeline.datasets.scenes.describe import QUADRANTS
from pipeline.datasets.scenes.draw import BACKGROUNDS, draw_scenes
from pipeline.datasets.scenes.looks import COLORS, SHAPES
from pipeline.images.images import open_image
from pipeline.params.schema import Limits, ScenesParams
from tests.dataset_makers import ALL

Scenes = list[tuple[CaptionRecord, Path]]


def draw(folder: Path, counts: tuple[int, int, int] = (4, 2, 3), size: int = 64, seed: int = 0) -> Scenes:
    folder.mkdir(exist_ok=True)
    return draw_scenes(ScenesParams(*counts, image_size=size, seed=seed), ALL, folder)


def contents(scenes: Scenes) -> dict[str, tuple[CaptionRecord, bytes]]:
    return {record.image_id: (record, path.read_bytes()) for record, path in scenes}


def quadrant_of(item: SceneObject) -> str | None:
    """The quadrant that holds the whole of an object; None if it is in several."""
    left, top, right, bottom = item.box
    for name, (x, y) in QUADRANTS.items():
        if x <= left and right <= x + 0.5 and y <= top and bottom <= y + 0.5:
            return name
    return None


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    """Enough scenes for one to four objects of every shape and color."""
    return draw(tmp_path_factory.mktemp("scenes"), (120, 2, 2))


def test_scenes_follow_from_seed_and_name_alone(tmp_path: Path) -> None:
    scenes = draw(tmp_path / "a")
    first = contents(scenes)
    assert contents(draw(tmp_path / "b")) == first
    assert first.items() < contents(draw(tmp_path / "more", (6, 5, 4))).items()
    other = contents(draw(tmp_path / "seed", seed=1))
    assert all(first[image_id] != other[image_id] for image_id in first)
    large = draw(tmp_path / "large", size=100)
    assert [record for record, _ in large] == [record for record, _ in scenes]
    assert {open_image(path, max_megapixels=1).size for _, path in large} == {(100, 100)}


def test_splits_are_as_large_as_asked_for_and_sorted(tmp_path: Path) -> None:
    """Limits used to be ignored for scenes, without a word."""
    params = ScenesParams(4, 2, 9, image_size=64, seed=0)
    scenes = draw_scenes(params, Limits(train=None, dev=5, test=3), tmp_path)
    assert [record.split for record, _ in scenes] == ["dev"] * 2 + ["test"] * 3 + ["train"] * 4
    ids = [record.image_id for record, _ in scenes]
    assert ids[0] == "dev_00001.png"
    assert [path for _, path in scenes] == [tmp_path / image_id for image_id in ids]
    assert sorted(path.name for path in tmp_path.iterdir()) == ids


def test_up_to_four_objects_of_all_looks_lie_in_different_quadrants(scenes: Scenes) -> None:
    for objects in [record.objects for record, _ in scenes]:
        places = [quadrant_of(item) for item in objects]
        assert len(objects) <= 1 or (None not in places and len(set(places)) == len(objects))
        assert len({(item.color, item.shape) for item in objects}) == len(objects)
    assert {len(record.objects) for record, _ in scenes} == {0, 1, 2, 3, 4}
    flat = [item for record, _ in scenes for item in record.objects]
    assert {item.shape for item in flat} == set(SHAPES)
    assert {item.color for item in flat} == set(COLORS)
    assert {item.size for item in flat} == {"small", "large"}
    for left, top, right, bottom in (item.box for item in flat):
        assert 0 < left < right < 1
        assert 0 < top < bottom < 1
        assert right - left == pytest.approx(bottom - top, abs=2e-4)


def test_each_scene_has_five_captions_that_name_every_object(scenes: Scenes) -> None:
    for record, _ in scenes:
        assert len(set(record.captions)) == 5
        looks = [f"{item.color} {item.shape}" for item in record.objects]
        for caption in record.captions:
            assert (caption[0].isupper(), caption[-1]) == (True, ".")
            assert [look for look in looks if look not in caption.lower()] == []
            named = {word.rstrip(".,") for word in caption.lower().split()} & {*SHAPES, *COLORS}
            assert looks or not named, "a scene without objects has neither shapes nor colors"


def facts(record: CaptionRecord) -> dict[tuple[str, str], str]:
    """The answer to what each kind of question asks about, by kind and the words that ask."""
    objects = record.objects
    known = {("count", ""): ("none", "one", "two", "three", "four")[len(objects)]}
    for item in objects:
        look = f"{item.color} {item.shape}"
        looks = f"{'an' if look[0] == 'o' else 'a'} {look}"
        known[("color", item.shape)] = item.color
        known[("shape", item.color)] = item.shape
        known[("presence", look)] = "yes"
        known[("place", quadrant_of(item) or "middle")] = looks
    return known


def test_questions_of_five_kinds_have_true_answers(scenes: Scenes) -> None:
    answers: dict[str, set[str]] = {}
    for record, _ in scenes:
        known = facts(record)
        for (turn,) in record.conversations:
            answers.setdefault(turn.kind, set()).add(turn.answer)
            # The longest words: "top left" and not "left".
            about = [words for kind, words in known if kind == turn.kind and f"{words}" in turn.question]
            if turn.kind == "place":
                assert turn.answer == known.get(("place", next(iter(about), "")), "nothing")
            elif turn.kind == "presence":
                assert (turn.answer == "yes") == bool(about), (record.objects, turn)
            else:
                (words,) = about
                assert turn.answer == known[(turn.kind, words)]
        assert len({turn.kind for (turn,) in record.conversations}) == len(record.conversations)
    assert answers["color"] == set(COLORS)
    assert answers["shape"] == set(SHAPES)
    assert answers["count"] == {"none", "one", "two", "three", "four"}
    assert answers["presence"] == {"yes", "no"}
    assert "nothing" in answers["place"]


def test_a_corner_in_a_caption_is_where_the_object_is(scenes: Scenes) -> None:
    corners = [
        (name, record)
        for record, _ in scenes
        for name, caption in itertools.product(QUADRANTS, record.captions)
        if f"{name} corner" in caption
    ]
    assert corners
    assert all([quadrant_of(item) for item in record.objects] == [name] for name, record in corners)


def test_the_pixels_show_what_the_description_says(tmp_path: Path) -> None:
    """Objects in their colors inside their boxes, and nothing but background outside."""
    backgrounds = np.array(list(BACKGROUNDS.values()))
    for record, path in draw(tmp_path, (40, 1, 1), size=224):
        pixels = np.asarray(open_image(path, max_megapixels=1)).astype(int)
        outside = np.ones(pixels.shape[:2], dtype=bool)
        for item in record.objects:
            left, top, right, bottom = (v * 224 for v in item.box)
            rows, columns = (slice(max(0, int(v) - 3), int(w) + 4) for v, w in ((top, bottom), (left, right)))
            outside[rows, columns] = False
            if item.shape != "ring":
                middle = pixels[round((top + bottom) / 2), round((left + right) / 2)]
                assert np.abs(middle - COLORS[item.color]).max() <= 12, record.image_id
        rest = pixels[outside]
        # A background is jittered by 14 and shaded down to 0.7.
        fits = [
            (rest <= color + 15).all() and (rest >= (color - 14) * 0.7 - 1).all() for color in backgrounds
        ]
        assert any(fits), record.image_id
