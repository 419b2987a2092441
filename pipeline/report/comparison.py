"""Two systems that captioned the same images: their scores, and the images whose captions differ most."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.images.images import open_image
from pipeline.metrics.bootstrap import difference_intervals
from pipeline.metrics.scores import SCORES, measure
from pipeline.report.gallery import thumbnail
from pipeline.report.report import write_page

SHOWN = 24  # images on the page


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """A score of both systems, and the 95 % interval of the second's minus the first's on the same images."""

    title: str
    first: float
    second: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Change:
    """An image that the systems caption differently, with the CIDEr-D (x 100) of both captions."""

    image_id: str
    captions: tuple[str, str]
    ciders: tuple[float, float]
    references: Sequence[str]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Scores of two systems, and the images with other captions, the one whose CIDEr-D changed most first."""

    images: int
    scores: list[ScoreRow]
    changes: list[Change]


def compare_captions(
    first: Mapping[str, str], second: Mapping[str, str], references: Mapping[str, Sequence[str]]
) -> Comparison:
    """Compare two captions of each image, by image id, with what people wrote of it.

    Raises PipelineError when the three are not of the same images.
    """
    before, after = measure(first, references), measure(second, references)
    old_scores, new_scores = before.scores(), after.scores()
    within = difference_intervals(after, before)
    changes = [
        Change(image, (first[image], second[image]), (float(old), float(new)), references[image])
        for image, old, new in zip(before.image_ids, before.cider, after.cider, strict=True)
        if first[image] != second[image]
    ]
    return Comparison(
        len(references),
        [ScoreRow(title, old_scores[key], new_scores[key], **within[key]) for key, title in SCORES.items()],
        sorted(changes, key=lambda c: (-abs(c.ciders[1] - c.ciders[0]), c.image_id)),
    )


def write_comparison(
    page: Path,
    comparison: Comparison,
    names: tuple[str, str],
    pictures: Mapping[str, Path],
    max_megapixels: float,
) -> None:
    """Write the page: scores, and the SHOWN images that changed most, of which `pictures` has image files."""
    shown = comparison.changes[:SHOWN]
    write_page(
        page,
        "comparison.html.j2",
        comparison=comparison,
        names=names,
        changes=shown,
        pictures={
            change.image_id: thumbnail(open_image(pictures[change.image_id], max_megapixels))
            for change in shown
            if change.image_id in pictures
        },
    )
