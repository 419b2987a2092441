"""Draw generated scenes of colored shapes: the embedded sample, whose every region has a known content.

A scene has a background and up to four objects (shape x color x size). Several objects stand in different
quadrants, entirely inside them. A single object stands in a quadrant or in the middle; in the middle it is
larger, so that the scene looks like a crop of a quadrant. A scene without objects looks like the crop of an
empty one. Everything follows from the seed and the scene's name: more scenes change no other.
"""

import math
import random
from pathlib import Path

from PIL import Image, ImageDraw

from pipeline.captions import SPLITS, CaptionRecord, SceneObject, Split
from pipeline.datasets.read import Entries
from pipeline.datasets.scenes.ask import ask
from pipeline.datasets.scenes.describe import MIDDLE, QUADRANTS, describe
from pipeline.datasets.scenes.looks import COLORS, SHAPES
from pipeline.files.disk_errors import explain_write_errors
from pipeline.params.schema import Limits, ScenesParams

BACKGROUNDS = {
    "gray": (150, 152, 156),
    "brown": (150, 115, 85),
    "pink": (236, 178, 196),
    "turquoise": (120, 196, 190),
}

# An object at least this wide (fraction of the image) is called large.
_LARGE = 0.3
# About half of the scenes show one object; the rest none, two, three or four.
_COUNTS = (0, 1, 1, 1, 1, 2, 2, 3, 4)
# Scenes are drawn larger and scaled down, because ImageDraw does not smooth edges.
_SUPERSAMPLING = 2


def draw_scenes(params: ScenesParams, limits: Limits, folder: Path) -> Entries:
    """Draw the scenes of all splits, within `limits`, as PNG files into `folder`, which must exist.

    Returns captions, with the objects of the scene, and file of each, sorted by image id.
    """
    scenes = []
    for split, count in scene_counts(params, limits).items():
        for number in range(1, count + 1):
            image_id = f"{split}_{number:05d}.png"
            rng = random.Random(f"{params.seed}/{image_id}")
            background = rng.choice(list(BACKGROUNDS))
            placed = _place_objects(rng)
            objects = tuple(item for item, _ in placed)
            picture = _draw(rng, background, objects, params.image_size)
            with explain_write_errors(folder / image_id):
                picture.save(folder / image_id)
            captions = describe(rng, background, placed)
            record = CaptionRecord(image_id, split, captions, objects, ask(rng, placed))
            scenes.append((record, folder / image_id))
    return sorted(scenes, key=lambda scene: scene[0].image_id)


def scene_counts(params: ScenesParams, limits: Limits) -> dict[Split, int]:
    """Number of scenes of each split."""
    return {s: min(getattr(params, s), getattr(limits, s) or getattr(params, s)) for s in SPLITS}


def _place_objects(rng: random.Random) -> list[tuple[SceneObject, str]]:
    """Up to four objects, each with its place, in reading order; no pair of color and shape twice."""
    count = rng.choice(_COUNTS)
    if count == 1 and rng.random() < 0.5:
        places = [MIDDLE]
    else:
        places = sorted(rng.sample(list(QUADRANTS), count), key=list(QUADRANTS).index)
    looks = rng.sample([(c, s) for c in COLORS for s in SHAPES], count)
    objects = []
    for place, (color, shape) in zip(places, looks, strict=True):
        if place == MIDDLE:
            diameter = rng.uniform(0.4, 0.85)
            room, origin = 1.0, (0.0, 0.0)
        else:
            diameter = rng.choice((rng.uniform(0.2, 0.26), rng.uniform(0.34, 0.44)))
            room, origin = 0.5, QUADRANTS[place]
        left, top = (start + (room - diameter) * rng.uniform(0.15, 0.85) for start in origin)
        x0, y0, x1, y1 = (round(v, 4) for v in (left, top, left + diameter, top + diameter))
        size = "large" if diameter >= _LARGE else "small"
        objects.append((SceneObject(shape, color, size, (x0, y0, x1, y1)), place))
    return objects


def _draw(
    rng: random.Random, background: str, objects: tuple[SceneObject, ...], image_size: int
) -> Image.Image:
    side = image_size * _SUPERSAMPLING
    base = _jitter(rng, BACKGROUNDS[background], 14)
    # A soft gradient, so that a background is not a single color; one factor, so that its hue stays.
    darker = rng.uniform(0.7, 0.95)
    shade = tuple(round(v * darker) for v in base)
    ramp = Image.linear_gradient("L").rotate(rng.choice((0, 90, 180, 270))).resize((side, side))
    canvas = Image.composite(
        Image.new("RGB", (side, side), base), Image.new("RGB", (side, side), shade), ramp
    )
    draw = ImageDraw.Draw(canvas)
    for item in objects:
        color = _jitter(rng, COLORS[item.color], 9)
        turn = math.radians(rng.uniform(-18, 18))
        left, top, right, bottom = (v * side for v in item.box)
        if item.shape == "circle":
            draw.ellipse((left, top, right, bottom), fill=color)
        elif item.shape == "ring":
            draw.ellipse((left, top, right, bottom), outline=color, width=round((right - left) * 0.2))
        else:
            x0, y0 = (left + right) / 2, (top + bottom) / 2
            cos, sin = math.cos(turn), math.sin(turn)
            points = _outline(item.shape, (right - left) / 2)
            draw.polygon([(x0 + x * cos - y * sin, y0 + x * sin + y * cos) for x, y in points], fill=color)
    return canvas.resize((image_size, image_size), Image.Resampling.LANCZOS)


def _jitter(rng: random.Random, color: tuple[int, ...], spread: int) -> tuple[int, ...]:
    return tuple(min(255, max(0, v + rng.randint(-spread, spread))) for v in color)


def _outline(shape: str, radius: float) -> list[tuple[float, float]]:
    """Corners of a polygon within `radius` of the origin, y downwards."""
    if shape == "cross":
        arm, half = radius * 0.95, radius * 0.3
        quarter = [(half, -arm), (half, -half), (arm, -half)]
        turns = ((1, 0), (0, 1), (-1, 0), (0, -1))  # cosine and sine of each quarter turn
        return [(x * cos - y * sin, x * sin + y * cos) for cos, sin in turns for x, y in quarter]
    # Number of corners, relative radius of every second corner, angle of the first corner.
    corners, inner, start = {
        "square": (4, 1.0, -45.0),
        "triangle": (3, 1.0, -90.0),
        "star": (10, 0.42, -90.0),
    }[shape]
    angles = [math.radians(start + 360 * index / corners) for index in range(corners)]
    reaches = [radius * (inner if index % 2 else 1.0) for index in range(corners)]
    return [(reach * math.cos(a), reach * math.sin(a)) for reach, a in zip(reaches, angles, strict=True)]
