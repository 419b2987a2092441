"""Draw the pictures of README.md and docs/app.md from the last run.

sample.png shows test scenes with the model's captions, and a region of one of them; app.png shows `vlm app`
in a headless Chromium (Debian's packages chromium and chromium-driver).
Run: make pictures
"""

import sys
import textwrap
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from selenium.webdriver.support.ui import WebDriverWait

sys.path.insert(0, str(Path(__file__).parents[1]))
from pipeline.captions import read_images
from pipeline.files.json_files import read_json, read_jsonl
from stages.errors import quiet_libraries
from tests.chromium import WHY_NOT, chromium
from tests.unit.vlm.app_client import running
from vlm.app.serve import load_application
from vlm.app.server import Limits

_SCENES = 6
_SIDE, _GAP, _TEXT = 224, 16, 76  # pixels: a scene, between two, the text below
_SCALE = 2  # the picture is drawn this much larger, for sharp screens


def main() -> None:
    """Draw both pictures."""
    quiet_libraries()
    _draw_sample(Path("docs/sample.png"))
    if WHY_NOT is not None:
        sys.exit(f"docs/app.png is not drawn: {WHY_NOT}")
    _draw_app(Path("docs/app.png"))


def _draw_app(picture: Path) -> None:
    """Ask the page about the corners of an example, and take its picture."""
    application = load_application(Path("data/best.safetensors"), "auto", None, Limits(20_000_000, 50), "")
    with (
        running(application) as address,
        TemporaryDirectory() as profile,
        chromium(Path(profile)) as page,
    ):
        page.open(address)
        page.all(".example")[1].click()
        page.wait(lambda: page.find("#request").is_enabled())
        page.find("[data-requests='top-left|top-right|bottom-left|bottom-right']").click()
        WebDriverWait(page.driver, 300).until(lambda _: len(page.all("#cards .card")) == 4)
        page.driver.save_screenshot(str(picture))


def _draw_sample(picture: Path) -> None:
    """Take scenes at equal distances over the test split, so that nobody chooses the good ones."""
    best = read_json(Path("metrics/evaluate.json"))["best_epoch"]
    predictions = [row for _, row in read_jsonl(Path(f"data/predictions/epoch_{best:03d}_test.jsonl"))]
    paths = {image.image_id: image.path for image in read_images(Path("data/images.jsonl"))}
    region = next(row for _, row in read_jsonl(Path("data/regions/regions.jsonl")) if "object" in row)
    chosen = predictions[len(predictions) // _SCENES // 2 :: len(predictions) // _SCENES][: _SCENES - 1]
    rows: list[tuple[str, str, dict[str, Any] | None]]
    rows = [(row["image_id"], row["caption"], None) for row in chosen]
    rows.append((region["image_id"], region["caption"], region))
    width, height = (_GAP + (_SIDE + _GAP) * 3) * _SCALE, (_GAP + (_SIDE + _TEXT + _GAP) * 2) * _SCALE
    sheet = Image.new("RGB", (width, height), "white")
    for number, (image_id, caption, outlined) in enumerate(rows):
        line, column = divmod(number, 3)
        corner = _GAP + column * (_SIDE + _GAP), _GAP + line * (_SIDE + _TEXT + _GAP)
        _place(sheet, corner, Path(paths[image_id]), caption, outlined)
    sheet.save(picture, optimize=True)


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


if __name__ == "__main__":
    main()
