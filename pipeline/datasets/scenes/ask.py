"""Ask about a generated scene: questions of five kinds, worded in several ways, with known answers."""

import random
from collections import Counter
from collections.abc import Iterator

from pipeline.captions import SceneObject, Turn
from pipeline.datasets.scenes.describe import MIDDLE, QUADRANTS, with_article
from pipeline.datasets.scenes.looks import COLORS, SHAPES

NOTHING = "nothing"
_NUMBERS = ("none", "one", "two", "three", "four")
_WORDINGS = {
    "color": ("What color is the {}?", "Which color does the {} have?", "What is the color of the {}?"),
    "shape": ("What shape is {}?", "Which shape is {}?", "What is the shape of the {} object?"),
    "place": ("What is in the {}?", "Which object is in the {}?", "What do you see in the {}?"),
    "count": (
        "How many shapes are there?",
        "How many objects do you see?",
        "How many shapes are in the picture?",
    ),
    "presence": ("Is there {}?", "Is there {} in the picture?", "Do you see {}?"),
}


def ask(rng: random.Random, placed: list[tuple[SceneObject, str]]) -> tuple[tuple[Turn, ...], ...]:
    """Ask of objects, each with its place, every question that has one answer, and as many of what is absent."""
    objects = [item for item, _ in placed]
    shapes, colors = (Counter(getattr(item, name) for item in objects) for name in ("shape", "color"))
    asked = [
        ("count", "", _NUMBERS[len(objects)]),
        *_places(rng, placed),
        *_presence(rng, objects),
        *(("color", item.shape, item.color) for item in objects if shapes[item.shape] == 1),
        *(("shape", item.color, item.shape) for item in objects if colors[item.color] == 1),
    ]
    turns = [Turn(rng.choice(_WORDINGS[kind]).format(about), answer, kind) for kind, about, answer in asked]
    rng.shuffle(turns)
    return tuple((turn,) for turn in turns)


def _places(rng: random.Random, placed: list[tuple[SceneObject, str]]) -> Iterator[tuple[str, str, str]]:
    """Ask of each place that holds an object, and of an empty one; a large object reaches into all corners."""
    contents = {place: with_article(f"{item.color} {item.shape}") for item, place in placed}
    empty = [] if MIDDLE in contents else [place for place in QUADRANTS if place not in contents]
    chosen = [*contents, *rng.sample(empty, min(1, len(empty)))]
    for place in chosen if contents else [*chosen, MIDDLE]:
        where = place if place == MIDDLE else f"{place} corner"
        yield "place", where, contents.get(place, NOTHING)


def _presence(rng: random.Random, objects: list[SceneObject]) -> Iterator[tuple[str, str, str]]:
    """Ask whether there is each object, and as often for one that is not there, mostly a similar one."""
    looks = [(item.color, item.shape) for item in objects]
    others = [(c, s) for c in COLORS for s in SHAPES if (c, s) not in looks]
    similar = [(c, s) for c, s in others if any((c == color) != (s == shape) for color, shape in looks)]
    absent = [rng.choice(similar if similar and rng.random() < 0.7 else others) for _ in looks or [None]]
    for color, shape in dict.fromkeys([*looks, *absent]):
        yield "presence", with_article(f"{color} {shape}"), "yes" if (color, shape) in looks else "no"
