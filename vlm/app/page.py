"""The page: one HTML file, one style sheet, one script, all from this folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import Response

from pipeline.regions.regions import REGIONS
from vlm.app.server import Limits

_FOLDER = Path(__file__).parent


def make_assets(
    model: Mapping[str, object], limits: Limits, examples: Sequence[str] = ()
) -> dict[str, Response]:
    """Make all parts of the page, by path.

    `model` names what the page is about: encoder, language_model, epoch, trained_on (a sentence), and
    answers_questions; `examples` are data addresses of images to try.
    """
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    page = environment.get_template("page.html.j2").render(
        model=model, limits=limits, examples=examples, regions=REGIONS
    )
    return {
        "/": Response(page, media_type="text/html"),
        "/page.css": Response((_FOLDER / "page.css").read_bytes(), media_type="text/css"),
        "/page.js": Response((_FOLDER / "page.js").read_bytes(), media_type="text/javascript"),
    }
