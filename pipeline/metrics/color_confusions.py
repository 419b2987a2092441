"""Which colours are said, and which instead of which: counts over images.

An image has the colours that are meant and those that are said. A colour in both is right. One that is meant
and not said was missed; each colour that is said and not meant stands in its place, or none does. What is
said beyond that, where nothing was missed, stands in the place of none.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.captions import SceneObject
from pipeline.metrics.colors import BASIC_COLORS, colors_in
from pipeline.metrics.scene_truth import colors_of_shapes

NONE = ""


@dataclass(frozen=True, slots=True)
class ColorConfusions:
    """How often what was said where what was meant.

    Attributes:
        colors: those that were meant or said, in the order of a table.
        images: how many images were counted, or parts of images.
        meant, said: in how many of these a colour was.
        counts: by (meant, said), `NONE` for no colour.
    """

    colors: tuple[str, ...]
    images: int
    meant: Mapping[str, int]
    said: Mapping[str, int]
    counts: Mapping[tuple[str, str], int]

    def precision(self, color: str) -> float | None:
        """Of the images of which a colour was said, those that it is right for, in per cent; None of none."""
        return _percent(self.counts.get((color, color), 0), self.said.get(color, 0))

    def recall(self, color: str) -> float | None:
        """Of the images that a colour was meant of, those that it was said of, in per cent; None of none."""
        return _percent(self.counts.get((color, color), 0), self.meant.get(color, 0))


def confusions_with_references(
    predictions: Mapping[str, str], references: Mapping[str, Sequence[str]]
) -> ColorConfusions:
    """Colours that any reference of an image names, against those of its prediction.

    As `metrics.colors.score_colors` counts: over all colours together the shares are its own.
    """
    return _count(
        (frozenset().union(*map(colors_in, captions)), colors_in(predictions[image_id]))
        for image_id, captions in references.items()
    )


def confusions_of_objects(
    captions: Iterable[tuple[str, SceneObject]], *, shapes: Collection[str], colors: Collection[str]
) -> ColorConfusions:
    """The true colour of the one object that is shown, against those said of shapes.

    A colour that is said elsewhere, of the background, does not count: `metrics.scene_truth` has the rule.
    """
    return _count(
        (frozenset([shown.color]), colors_of_shapes(caption, shapes=shapes, colors=colors))
        for caption, shown in captions
    )


def _count(images: Iterable[tuple[frozenset[str], frozenset[str]]]) -> ColorConfusions:
    meant_of: Counter[str] = Counter()
    said_of: Counter[str] = Counter()
    counts: Counter[tuple[str, str]] = Counter()
    total = 0
    for meant, said in images:
        total += 1
        meant_of.update(meant)
        said_of.update(said)
        counts.update((color, color) for color in meant & said)
        missed, wrong = meant - said, said - meant
        if missed or wrong:
            counts.update((one, other) for one in missed or {NONE} for other in wrong or {NONE})
    found = {*meant_of, *said_of}
    known = [color for color in BASIC_COLORS if color in found]
    return ColorConfusions((*known, *sorted(found - {*known})), total, meant_of, said_of, counts)


def _percent(right: int, of: int) -> float | None:
    return 100 * right / of if of else None
