"""The page: one HTML file, one style sheet, one script, all from this folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.regions.regions import REGIONS

_FOLDER = Path(__file__).parent
# Three a row, as they lie in the image; whatever else can be asked for follows.
_FIRST_BUTTONS = (
    "full",
    *("top-left", "top", "top-right"),
    *("left", "center", "right"),
    *("bottom-left", "bottom", "bottom-right"),
)
_COMPARISONS = {
    "left and right": ("left", "right"),
    "top and bottom": ("top", "bottom"),
    "the four corners": ("top-left", "top-right", "bottom-left", "bottom-right"),
}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file that the server sends, made once."""

    content: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Which model the page is about."""

    encoder: str
    language_model: str
    epoch: int


def make_assets(model: ModelFacts, max_upload_bytes: int, max_megapixels: float) -> Mapping[str, Asset]:
    """All that the page consists of, by the path at which it is asked for."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    page = environment.get_template("page.html.j2").render(
        model=model,
        max_upload_bytes=max_upload_bytes,
        max_megapixels=max_megapixels,
        regions=REGIONS,
        region_names=[*_FIRST_BUTTONS, *(name for name in REGIONS if name not in _FIRST_BUTTONS)],
        comparisons=_COMPARISONS,
    )
    return {
        "/": Asset(page.encode(), "text/html"),
        "/page.css": Asset((_FOLDER / "page.css").read_bytes(), "text/css"),
        "/page.js": Asset((_FOLDER / "page.js").read_bytes(), "text/javascript"),
    }
