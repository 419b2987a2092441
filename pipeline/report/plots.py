"""Curves of a run as inline SVG: small, byte-stable, at home on a light and on a dark page.

matplotlib knows no style sheets, so colors that the page decides are drawn in stand-in colors and
replaced in the SVG's text: `currentColor` and the CSS variables `--dev` and `--test`.
"""

import csv
import io
import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.errors import PipelineError
from pipeline.files.batched import batched
from pipeline.report.gallery import explain_content_errors

_INK, _DEV, _TEST = "#010203", "#010204", "#010205"
_PAGE_COLORS = {_INK: "currentColor", _DEV: "var(--dev)", _TEST: "var(--test)"}
# Legible on white and on near-black.
_GRID = "#88888855"
_INCHES = (4.2, 2.5)
_DEV_LOSS = "dev_loss"
# More points than pixels only make the page heavy: beyond this, each is the mean of several steps.
_MAX_POINTS = 300


@dataclass(frozen=True, slots=True)
class Curve:
    """One plot: its heading, a note on how to read it, its SVG element."""

    title: str
    note: str
    svg: Markup


def training_curves(path: Path) -> list[Curve]:
    """Plot loss and gradient norm per step, from the training CSV; a vertical line ends each epoch."""
    table = _read_columns(path, ("step", "epoch", "loss", "gradient_norm"))
    steps, epochs = table["step"], table["epoch"]
    size = -(-len(steps) // _MAX_POINTS)
    ends = [s for s, now, after in zip(steps, epochs, epochs[1:], strict=False) if now != after]
    note = f"mean of each {size} steps" if size > 1 else "each step"

    def draw(axes: Axes, key: str) -> None:
        axes.plot(_means(steps, size), _means(table[key], size), color=_TEST, linewidth=1.2)
        for end in ends:
            axes.axvline(end, color=_GRID, linewidth=0.8, linestyle=(0, (2, 2)))
        axes.set_xlabel("step")
        axes.set_ylim(bottom=0)

    titles = {"loss": "Training loss", "gradient_norm": "Gradient norm"}
    return [Curve(title, note, _svg(draw, key, title)) for key, title in titles.items()]


def epoch_curves(path: Path, scores: dict[str, str], best_epoch: int) -> list[Curve]:
    """Plot dev's loss, and each score (key -> title) on dev and test, from the epochs CSV; mark the best."""
    columns = [f"{split}_{key}" for key in scores for split in ("dev", "test")]
    table = _read_columns(path, ("epoch", _DEV_LOSS, *columns))

    def draw(axes: Axes, key: str) -> None:
        for column in [f"dev_{key}", f"test_{key}"] if key in scores else [key]:
            color, line = (_DEV, (0, (4, 2))) if column.startswith("dev") else (_TEST, "solid")
            axes.plot(table["epoch"], table[column], color=color, linestyle=line, marker="o", markersize=3)
        axes.axvline(best_epoch, color=_GRID, linewidth=5)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))

    titles = {_DEV_LOSS: "Loss on dev", **scores}
    return [Curve(title, "by epoch", _svg(draw, key, title)) for key, title in titles.items()]


def _svg(draw: Callable[[Axes, str], None], key: str, title: str) -> Markup:
    """Return what `draw` plots, as an SVG element without what differs between runs or suits a file."""
    style: dict[Any, Any] = {
        "svg.hashsalt": key,
        "svg.fonttype": "none",  # text stays text: the page's font, selectable, small
        "font.size": 9,
        **dict.fromkeys(("text.color", "xtick.labelcolor", "ytick.labelcolor", "axes.labelcolor"), _INK),
        "axes.unicode_minus": False,
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=_INCHES, layout="constrained")
        axes = figure.add_subplot()
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(_GRID)
        axes.tick_params(length=0)
        axes.grid(axis="y", color=_GRID, linewidth=0.6)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
        draw(axes, key)
        file = io.StringIO()
        figure.savefig(
            file,
            format="svg",
            transparent=True,
            metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")),
        )
    svg = file.getvalue()
    start, rest = svg[svg.index("<svg") :].split(">", maxsplit=1)
    box = re.search(r'viewBox="[^"]*"', start)
    svg = f'<svg role="img" aria-label="{title}" {box.group() if box else ""}>{rest}'
    # All curves share one page, on which an id must be unique.
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{key}-", svg)
    for stand_in, color in _PAGE_COLORS.items():
        svg = svg.replace(stand_in, color)
    return Markup(svg.strip())  # numbers and our own words, nothing from outside


def _means(values: Sequence[float], size: int) -> list[float]:
    """Return the mean of each `size` values in a row."""
    return [statistics.fmean(run) for run in batched(values, size)]


def _read_columns(path: Path, names: Sequence[str]) -> dict[str, list[float]]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise PipelineError(f"Cannot read {path}: {error.strerror}. Fix: run `dvc repro`.") from error
    with explain_content_errors(path):
        rows = list(csv.DictReader(text.splitlines()))
        return {name: [float(row[name]) for row in rows] for name in names}
