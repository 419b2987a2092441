"""The captions of a generated scene: five, each worded differently."""

import random
from typing import Literal

from pipeline.captions import SceneObject

# Left and top of each quadrant, in fractions of the image.
QUADRANTS = {
    "top left": (0.0, 0.0),
    "top right": (0.5, 0.0),
    "bottom left": (0.0, 0.5),
    "bottom right": (0.5, 0.5),
}
MIDDLE = "middle"
_NUMBERS = {2: "two", 3: "three", 4: "four"}

Relation = Literal["left of", "right of", "above", "below"]


def describe(rng: random.Random, background: str, placed: list[tuple[SceneObject, str]]) -> tuple[str, ...]:
    """Five captions of a scene, each worded differently."""
    if len(placed) == 1:
        captions = _describe_one(background, *placed[0])
    elif len(placed) == 2:
        captions = _describe_two(background, placed)
    else:
        captions = _describe_many(background, [_look(o) for o, _ in placed])
    rng.shuffle(captions)
    return tuple(captions)


def _describe_one(background: str, item: SceneObject, place: str) -> list[str]:
    where = "in the middle" if place == MIDDLE else f"in the {place} corner"
    what = f"{item.color} {item.shape}"
    return [
        f"A {item.size} {what} on a {background} background.",
        f"There is {_with_article(what)} {where}.",
        f"One {item.size} {what} {where} of the picture.",
        f"A picture of {_with_article(what)} on a {background} background.",
        f"{_with_article(what).capitalize()} is {where} of a {background} picture.",
    ]


def _describe_two(background: str, placed: list[tuple[SceneObject, str]]) -> list[str]:
    (first, first_place), (second, second_place) = placed
    relation, inverse = _relation(first_place, second_place)
    one, two = _look(first), _look(second)
    return [
        f"{one.capitalize()} and {two} on a {background} background.",
        f"There is {one} {relation} {two}.",
        f"Two shapes, {one} and {two}.",
        f"A picture of {one} and {two}.",
        f"{two.capitalize()} is {inverse} {one}.",
    ]


def _describe_many(background: str, looks: list[str]) -> list[str]:
    number = _NUMBERS[len(looks)]
    listed = f"{', '.join(looks[:-1])} and {looks[-1]}"
    return [
        f"{listed.capitalize()} on a {background} background.",
        f"There are {number} shapes, {listed}.",
        f"{number.capitalize()} shapes on a {background} background, {listed}.",
        f"A picture of {number} shapes, {listed}.",
        f"{listed.capitalize()}.",
    ]


def _look(item: SceneObject) -> str:
    return _with_article(f"{item.color} {item.shape}")


def _with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _relation(first: str, second: str) -> tuple[Relation, Relation]:
    """How the first quadrant lies to the second, and the second to the first, in reading order."""
    if QUADRANTS[first][1] == QUADRANTS[second][1]:
        return "left of", "right of"
    return "above", "below"
