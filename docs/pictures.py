"""Draw docs/sample.png: test scenes of the last run with the model's captions, and a region of one of them.

Run: make pictures
"""

import json
import textwrap
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

_SCENES = 6
_SIDE, _GAP, _TEXT = 224, 16, 76  # pixels: a scene, between two, the text below
_SCALE = 2  # the picture is drawn this much larger, for sharp screens


def main() -> None:
    """Take scenes at equal distances over the test split, so that nobody chooses the good ones."""
    best = json.loads(Path("metrics/evaluate.json").read_text(encoding="utf-8"))["best_epoch"]
    predictions = _read(Path(f"data/predictions/epoch_{best:03d}_test.jsonl"))
    paths = {row["image_id"]: row["path"] for row in _read(Path("data/images.jsonl"))}
    regions = [row for row in _read(Path("data/regions/regions.jsonl")) if "object" in row]
    outlined = regions[0]["image_id"]
    chosen = predictions[len(predictions) // _SCENES // 2 :: len(predictions) // _SCENES][: _SCENES - 1]
    rows: list[tuple[str, str, dict[str, Any] | None]]
    rows = [(row["image_id"], row["caption"], None) for row in chosen]
    rows.append((outlined, regions[0]["caption"], regions[0]))
    width, height = (_GAP + (_SIDE + _GAP) * 3) * _SCALE, (_GAP + (_SIDE + _TEXT + _GAP) * 2) * _SCALE
    sheet = Image.new("RGB", (width, height), "white")
    for number, (image_id, caption, region) in enumerate(rows):
        column, line = number % 3, number // 3
        corner = _GAP + column * (_SIDE + _GAP), _GAP + line * (_SIDE + _TEXT + _GAP)
        _place(sheet, corner, Path(paths[image_id]), caption, region)
    sheet.save("docs/sample.png", optimize=True)


def _place(
    sheet: Image.Image, corner: tuple[int, int], path: Path, caption: str, region: dict[str, Any] | None
) -> None:
    """Put a scene and its caption at `corner` (in pixels before scaling)."""
    draw, (left, top) = ImageDraw.Draw(sheet), (corner[0] * _SCALE, corner[1] * _SCALE)
    side = _SIDE * _SCALE
    with Image.open(path) as image:
        sheet.paste(image.convert("RGB").resize((side, side)), (left, top))
    font = ImageFont.load_default(15 * _SCALE)
    y = top + side + 6 * _SCALE
    if region is not None:
        box = [(left, top)[place % 2] + edge * side for place, edge in enumerate(region["box"])]
        draw.rectangle(box, outline="black", width=3 * _SCALE)
        draw.text((left, y), f"{region['region']}:", "dimgray", font)
        y += 20 * _SCALE
    draw.multiline_text((left, y), textwrap.fill(caption, 29), "black", font, spacing=4 * _SCALE)


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main()
