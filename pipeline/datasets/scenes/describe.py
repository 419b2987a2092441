"""Describe a generated scene in five captions, each worded differently."""

import random

from pipeline.captions import SceneObject

# Left and top of each quadrant, in fractions of the image.
QUADRANTS = {
    "top left": (0.0, 0.0),
    "top right": (0.5, 0.0),
    "bottom left": (0.0, 0.5),
    "bottom right": (0.5, 0.5),
}
MIDDLE = "middle"
NUMBERS = ("none", "one", "two", "three", "four")


def describe(rng: random.Random, background: str, placed: list[tuple[SceneObject, str]]) -> tuple[str, ...]:
    """Caption objects, each with its place: a quadrant or the middle; or a scene without objects."""
    if not placed:
        captions = [
            f"An empty {background} background.",
            f"There is nothing on a {background} background.",
            "A picture without shapes.",
            f"A plain {background} picture.",
            "Nothing is in the picture.",
        ]
        rng.shuffle(captions)
        return tuple(captions)
    (first, place), *_ = placed
    looks = [with_article(f"{item.color} {item.shape}") for item, _ in placed]
    listed = f"{', '.join(looks[:-1])} and {looks[-1]}"
    if len(placed) == 1:
        look, bare = looks[0], f"{first.color} {first.shape}"
        where = "in the middle" if place == MIDDLE else f"in the {place} corner"
        captions = [
            f"A {first.size} {bare} on a {background} background.",
            f"There is {look} {where}.",
            f"One {first.size} {bare} {where} of the picture.",
            f"A picture of {look} on a {background} background.",
            f"{look.capitalize()} is {where} of a {background} picture.",
        ]
    elif len(placed) == 2:
        one_row = QUADRANTS[place][1] == QUADRANTS[placed[1][1]][1]
        # Objects are in reading order.
        relation, inverse = ("left of", "right of") if one_row else ("above", "below")
        captions = [
            f"{listed.capitalize()} on a {background} background.",
            f"There is {looks[0]} {relation} {looks[1]}.",
            f"Two shapes, {listed}.",
            f"A picture of {listed}.",
            f"{looks[1].capitalize()} is {inverse} {looks[0]}.",
        ]
    else:
        number = NUMBERS[len(looks)]
        captions = [
            f"{listed.capitalize()} on a {background} background.",
            f"There are {number} shapes, {listed}.",
            f"{number.capitalize()} shapes on a {background} background, {listed}.",
            f"A picture of {number} shapes, {listed}.",
            f"{listed.capitalize()}.",
        ]
    rng.shuffle(captions)
    return tuple(captions)


def with_article(words: str) -> str:
    """Put "a" or "an" before words."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
