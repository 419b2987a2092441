"""Ask about a generated scene: questions of five kinds, worded in several ways, with known answers."""

import random
from collections import Counter

from pipeline.captions import SceneObject, Turn
from pipeline.datasets.scenes.describe import MIDDLE, NUMBERS, QUADRANTS, with_article
from pipeline.datasets.scenes.looks import COLORS, SHAPES

NOTHING = "nothing"
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
    """Ask of objects, each with its place, a question of each kind that has one answer."""
    objects = [item for item, _ in placed]
    asked = [("count", "", NUMBERS[len(objects)]), _place(rng, placed), _presence(rng, objects)]
    for about, kind in (("shape", "color"), ("color", "shape")):
        counts = Counter(getattr(item, about) for item in objects)
        if unique := [item for item in objects if counts[getattr(item, about)] == 1]:
            item = rng.choice(unique)
            asked.append((kind, getattr(item, about), getattr(item, kind)))
    turns = [Turn(rng.choice(_WORDINGS[kind]).format(about), answer, kind) for kind, about, answer in asked]
    rng.shuffle(turns)
    return tuple((turn,) for turn in turns)


def _place(rng: random.Random, placed: list[tuple[SceneObject, str]]) -> tuple[str, str, str]:
    """Ask what is in a place that holds a whole object, or none; a large object reaches into all corners."""
    contents = {place: with_article(f"{item.color} {item.shape}") for item, place in placed}
    empty = [] if MIDDLE in contents else [place for place in QUADRANTS if place not in contents]
    if not placed:
        empty.append(MIDDLE)
    take_empty = bool(empty) and (not contents or rng.random() < 0.4)
    place = rng.choice(empty if take_empty else list(contents))
    where = place if place == MIDDLE else f"{place} corner"
    return "place", where, contents.get(place, NOTHING)


def _presence(rng: random.Random, objects: list[SceneObject]) -> tuple[str, str, str]:
    """Ask whether there is an object: one of the scene, or half the time another one, often a similar one."""
    looks = {(item.color, item.shape) for item in objects}
    if looks and rng.random() < 0.55:
        color, shape = rng.choice(sorted(looks))
        return "presence", with_article(f"{color} {shape}"), "yes"
    others = [(c, s) for c in COLORS for s in SHAPES if (c, s) not in looks]
    similar = [(c, s) for c, s in others if any((c == color) != (s == shape) for color, shape in looks)]
    color, shape = rng.choice(similar if similar and rng.random() < 0.7 else others)
    return "presence", with_article(f"{color} {shape}"), "no"
