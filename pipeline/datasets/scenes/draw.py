"""The embedded sample: generated scenes of coloured shapes, so that what every region shows is known.

A scene has a background and one to four objects (shape x colour x size). Several objects stand in
different quadrants of the picture, one to a quadrant, inside it; a single object stands in a quadrant or
in the middle, then larger, so that the scene looks like what a crop of a quadrant looks like. Each scene
is described in five differently worded captions. Everything follows from the seed and the scene's name:
adding a scene changes no other.
"""

import math
import random
from pathlib import Path

from PIL import Image, ImageDraw

from pipeline.captions import SPLITS, CaptionRecord, SceneObject, Split
from pipeline.datasets.read import Entries
from pipeline.datasets.scenes.describe import MIDDLE, QUADRANTS, describe
from pipeline.files.disk_errors import explain_write_errors
from pipeline.params.schema import Limits, ScenesParams

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
COLORS = {
    "red": (214, 39, 40),
    "green": (44, 150, 60),
    "blue": (35, 80, 200),
    "yellow": (245, 215, 40),
    "orange": (250, 130, 20),
    "purple": (125, 50, 165),
    "black": (22, 22, 24),
    "white": (246, 246, 246),
}
BACKGROUNDS = {
    "gray": (150, 152, 156),
    "brown": (150, 115, 85),
    "pink": (236, 178, 196),
    "turquoise": (120, 196, 190),
}

# An object at least this wide (fraction of the image) is called large.
_LARGE = 0.3
# Half of the scenes show one object; the rest two, three or four.
_COUNTS = (1, 1, 1, 1, 2, 2, 3, 4)
# Drawn larger and scaled down, because ImageDraw does not smooth edges.
_SUPERSAMPLING = 2


def draw_scenes(params: ScenesParams, limits: Limits, folder: Path) -> Entries:
    """Draw the scenes of all splits, at most so many as `limits` says, as PNG files into `folder`.

    Returns a caption record, with the objects shown, and the file of each, sorted by image id.
    """
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    scenes = []
    for split, count in scene_counts(params, limits).items():
        for number in range(1, count + 1):
            image_id = f"{split}_{number:05d}.png"
            rng = random.Random(f"{params.seed}/{image_id}")
            background = rng.choice(list(BACKGROUNDS))
            placed = _place_objects(rng)
            path = folder / image_id
            picture = _draw(rng, background, [o for o, _ in placed], params.image_size)
            with explain_write_errors(path):
                picture.save(path)
            captions = describe(rng, background, placed)
            record = CaptionRecord(image_id, split, captions, tuple(o for o, _ in placed))
            scenes.append((record, path))
    return sorted(scenes, key=lambda scene: scene[0].image_id)


def scene_counts(params: ScenesParams, limits: Limits) -> dict[Split, int]:
    """How many scenes of each split are drawn."""
    return {s: min(getattr(params, s), getattr(limits, s) or getattr(params, s)) for s in SPLITS}


def _place_objects(rng: random.Random) -> list[tuple[SceneObject, str]]:
    """One to four objects and the place of each, in reading order; no colour-and-shape pair twice."""
    count = rng.choice(_COUNTS)
    if count == 1 and rng.random() < 0.5:
        places = [MIDDLE]
    else:
        chosen = set(rng.sample(list(QUADRANTS), count))
        places = [place for place in QUADRANTS if place in chosen]
    looks = rng.sample([(c, s) for c in COLORS for s in SHAPES], count)
    objects = []
    for place, (color, shape) in zip(places, looks, strict=True):
        if place == MIDDLE:
            diameter = rng.uniform(0.4, 0.85)
            room, origin = 1.0, (0.0, 0.0)
        else:
            diameter = rng.choice((rng.uniform(0.2, 0.26), rng.uniform(0.34, 0.44)))
            room, origin = 0.5, QUADRANTS[place]
        slack = room - diameter
        left = origin[0] + slack * rng.uniform(0.15, 0.85)
        top = origin[1] + slack * rng.uniform(0.15, 0.85)
        box = tuple(round(v, 4) for v in (left, top, left + diameter, top + diameter))
        size = "large" if diameter >= _LARGE else "small"
        objects.append((SceneObject(shape, color, size, (box[0], box[1], box[2], box[3])), place))
    return objects


def _draw(rng: random.Random, background: str, objects: list[SceneObject], image_size: int) -> Image.Image:
    side = image_size * _SUPERSAMPLING
    base = tuple(_jitter(rng, v, 14) for v in BACKGROUNDS[background])
    # A soft gradient, so that a background is no single number; one factor, so that its hue stays.
    darker = rng.uniform(0.7, 0.95)
    shade = tuple(round(v * darker) for v in base)
    ramp = Image.linear_gradient("L").rotate(rng.choice((0, 90, 180, 270))).resize((side, side))
    canvas = Image.composite(
        Image.new("RGB", (side, side), base), Image.new("RGB", (side, side), shade), ramp
    )
    draw = ImageDraw.Draw(canvas)
    for item in objects:
        color = tuple(_jitter(rng, v, 9) for v in COLORS[item.color])
        left, top, right, bottom = (v * side for v in item.box)
        _draw_shape(draw, item.shape, (left, top, right, bottom), color, rng.uniform(-18, 18))
    return canvas.resize((image_size, image_size), Image.Resampling.LANCZOS)


def _jitter(rng: random.Random, value: int, spread: int) -> int:
    return min(255, max(0, value + rng.randint(-spread, spread)))


def _draw_shape(
    draw: ImageDraw.ImageDraw,
    shape: str,
    box: tuple[float, float, float, float],
    color: tuple[int, ...],
    turn: float,
) -> None:
    """Fill `shape` inside `box` (pixels), turned by `turn` degrees."""
    left, top, right, bottom = box
    if shape == "circle":
        draw.ellipse(box, fill=color)
    elif shape == "ring":
        draw.ellipse(box, outline=color, width=round((right - left) * 0.2))
    else:
        center = ((left + right) / 2, (top + bottom) / 2)
        points = _outline(shape, (right - left) / 2)
        cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
        turned = [(center[0] + x * cos - y * sin, center[1] + x * sin + y * cos) for x, y in points]
        draw.polygon(turned, fill=color)


def _outline(shape: str, radius: float) -> list[tuple[float, float]]:
    """Corners of a polygon of at most `radius` around the origin, y downwards."""
    if shape == "cross":
        arm, half = radius * 0.95, radius * 0.3
        quarter = [(half, -arm), (half, -half), (arm, -half)]
        turns = ((1, 0), (0, 1), (-1, 0), (0, -1))  # cosine and sine of each quarter turn
        return [(x * cos - y * sin, x * sin + y * cos) for cos, sin in turns for x, y in quarter]
    # (number of corners, radius of every second corner) of a star-shaped outline from an angle on
    corners, inner, start = {
        "square": (4, 1.0, -45.0),
        "triangle": (3, 1.0, -90.0),
        "star": (10, 0.42, -90.0),
    }[shape]
    points = []
    for index in range(corners):
        angle = math.radians(start + 360 * index / corners)
        reach = radius * (inner if index % 2 else 1.0)
        points.append((reach * math.cos(angle), reach * math.sin(angle)))
    return points
