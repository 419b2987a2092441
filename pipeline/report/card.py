"""The dataset card (data/dataset.md) as HTML for the report."""

from pathlib import Path

from markdown_it import MarkdownIt
from markupsafe import Markup

from pipeline.errors import PipelineError

# The card quotes ids and paths of anyone's dataset: HTML, links, images and emphasis stay mere text.
_RULES = ("heading", "list", "table", "backticks")


def card_html(path: Path) -> Markup:
    """The card without its title, its headings a step lower, its tables in boxes that scroll.

    Raises PipelineError when the card cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise PipelineError(f"cannot read {path}: {error.strerror}; run `dvc repro prepare`.") from error
    markdown = MarkdownIt("zero").enable(list(_RULES))
    tokens = markdown.parse(text)
    # A heading is three tokens: its begin, its words, its end.
    if tokens and tokens[0].tag == "h1":
        tokens = tokens[3:]
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 1)}"
    html = markdown.renderer.render(tokens, markdown.options, {})
    box = '<div class="scroll" role="region" aria-label="Data counts" tabindex="0"><table>'
    return Markup(html.replace("<table>", box).replace("</table>", "</table></div>"))
