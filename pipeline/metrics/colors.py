"""Color words in captions: does a prediction name the colors that people named of the image?

The colors are the eleven basic ones of English (Berlin and Kay 1969).
"""

import re
from collections.abc import Mapping, Sequence

from pipeline.metrics.tokenizer import tokenize

_COLORS = {"black", "blue", "brown", "gray", "green", "orange", "pink", "purple", "red", "white", "yellow"}
_SPELLINGS = {"grey": "gray"}


def score_colors(predictions: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Compare the colors in each image's prediction with those in any of its references.

    A color counts once an image, however often it is named. Returns shares in per cent, over all images
    together, rounded to four decimals; 0 where there is nothing to take a share of:

    - `precision`: of the colors that predictions name, those that a reference of the image names too;
    - `recall`: of the colors that references name, those that the prediction names too;
    - `said`, `named`: how many colors predictions and references name.
    """
    predictions_name = references_name = right = 0
    for image, captions in references.items():
        predicted = _colors_in(predictions[image])
        expected = set().union(*map(_colors_in, captions))
        predictions_name += len(predicted)
        references_name += len(expected)
        right += len(predicted & expected)
    return {
        "precision": round(100 * right / max(1, predictions_name), 4),
        "recall": round(100 * right / max(1, references_name), 4),
        "said": predictions_name,
        "named": references_name,
    }


def _colors_in(caption: str) -> set[str]:
    # "Black-and-white" and "blue/green" are tokens that name two.
    parts = (part for token in tokenize(caption) for part in re.split("[-/]", token))
    return _COLORS.intersection(_SPELLINGS.get(part, part) for part in parts)
