"""Colour words in captions: are those said among those that people used of the image?

The colours are the eleven basic ones of English (Berlin and Kay 1969).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from pipeline.metrics.tokenizer import tokenize

# In the order of a table: neighbours are easily taken for each other.
BASIC_COLORS = (
    "red",
    "orange",
    "yellow",
    "green",
    "blue",
    "purple",
    "pink",
    "brown",
    "black",
    "gray",
    "white",
)
_SPELLINGS = {"grey": "gray"}


@dataclass(frozen=True, slots=True)
class ColorScores:
    """Shares in per cent, over all images together; 0 where there is nothing to take a share of.

    Attributes:
        precision: of the colours said of an image, those that a reference of the image names.
        recall: of the colours that references of an image name, those said.
        said, named: how many colours were said, and named by references.
    """

    precision: float
    recall: float
    said: int
    named: int

    def as_dict(self) -> dict[str, float]:
        """The fields by name, rounded to four decimals: for metrics JSON."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def score_colors(predictions: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> ColorScores:
    """Compare the colours in each image's prediction with those in any of its references.

    A colour counts once an image, however often it is said.
    """
    said = named = right = 0
    for image, captions in references.items():
        spoken = colors_in(predictions[image])
        known = frozenset().union(*map(colors_in, captions))
        said += len(spoken)
        named += len(known)
        right += len(spoken & known)
    return ColorScores(100 * right / max(1, said), 100 * right / max(1, named), said, named)


def colors_in(caption: str) -> frozenset[str]:
    """The basic colours that a caption names."""
    # "Black-and-white" and "blue/green" are tokens that name two.
    parts = (part for token in tokenize(caption) for part in re.split("[-/]", token))
    words = (_SPELLINGS.get(part, part) for part in parts)
    return frozenset(word for word in words if word in BASIC_COLORS)
