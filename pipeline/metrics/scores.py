"""The scores of a set of captions, as metrics files and the report show them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PipelineError, first_few
from pipeline.metrics.bleu import bleu_counts, bleu_of_counts
from pipeline.metrics.cider import cider_d
from pipeline.metrics.rouge import rouge_l
from pipeline.metrics.tokenizer import split_at_blanks, tokenize

# The columns of `PerImageScores.resample`, and how people write their names.
SCORES = {
    "bleu_1": "BLEU-1",
    "bleu_2": "BLEU-2",
    "bleu_3": "BLEU-3",
    "bleu_4": "BLEU-4",
    "cider": "CIDEr-D",
    "rouge_l": "ROUGE-L",
}
# The captions that a model's scores are compared with.
CONTROLS = {
    "constant": "one caption for all",
    "nearest": "nearest training image's",
    "consensus": "consensus of the nearest",
    "shuffled": "the model, images shuffled",
}


def verdict(evaluation: Mapping[str, Any]) -> str:
    """Return the sentence that names the controls with a higher CIDEr-D than the model; empty if none has.

    `evaluation` is the content of metrics/evaluate.json.
    """
    reached = evaluation["test"]["cider"]
    better = {name: of["cider"] for name, of in evaluation["controls"].items() if of["cider"] > reached}
    if not better:
        return ""
    names = " and ".join(f"“{CONTROLS.get(name, name)}”" for name in better)
    figures = " and ".join(f"{cider:.2f}" for cider in better.values())
    return f"The captions say less than {names}: CIDEr {reached:.2f} against {figures}."


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores times 100; `words` is the mean length of the predictions in tokens."""

    bleu_1: float
    bleu_2: float
    bleu_3: float
    bleu_4: float
    cider: float
    rouge_l: float
    words: float
    images: int

    def as_dict(self) -> dict[str, float]:
        """The fields by name, rounded to four decimals: for metrics JSON."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


@dataclass(frozen=True)
class PerImageScores:
    """What the scores of a set of captions follow from, image by image, in the order of `image_ids`.

    Attributes:
        bleu: `[images, 10]`, the counts of `bleu_counts`.
        cider, rouge_l: `[images]`, the score of each caption, times 100.
    """

    image_ids: tuple[str, ...]
    bleu: NDArray[np.int64]
    cider: NDArray[np.float64]
    rouge_l: NDArray[np.float64]

    def scores(self) -> Scores:
        """The scores of all images together."""
        ones = np.ones((1, len(self.image_ids)))
        values = dict(zip(SCORES, map(float, self.resample(ones)[0]), strict=True))
        words = float(self.bleu[:, -2].mean())
        return Scores(**values, words=words, images=len(self.image_ids))

    def resample(self, weights: NDArray[Any]) -> NDArray[np.float64]:
        """Return the scores `[samples, 6]` (columns: SCORES) of samples that hold each image `weights` times.

        `weights` is `[samples, images]`. CIDEr-D's idf stays that of all images.
        """
        weights = weights.astype(np.float64)
        total = weights.sum(axis=1)
        bleu = bleu_of_counts(weights @ self.bleu)  # [samples, 4]
        means = [weights @ values / total for values in (self.cider, self.rouge_l)]
        return np.column_stack([bleu, *means])


def measure(predictions: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> PerImageScores:
    """Compare one caption for each image, by image id, with all captions that people wrote of it.

    A prediction without tokens scores 0, except in ROUGE-L if a reference has no tokens either. Raises
    PipelineError when predictions and references are not of the same images.
    """
    missing, unknown = references.keys() - predictions.keys(), predictions.keys() - references.keys()
    if missing or unknown:
        what = {"no prediction for": missing, "a prediction but no references for": unknown}
        counted = " and ".join(f"{kind} {_named(ids)}" for kind, ids in what.items() if ids)
        raise PipelineError(
            f"there is {counted}; both must be of the same images (of one split: `vlm score --split`)."
        )
    empty = [i for i in references if not references[i]]
    if empty:
        raise PipelineError(
            f"there is an empty list of references for {_named(empty)}; each image needs one."
        )
    if not references:
        raise PipelineError("there are no images to score; is the split empty?")

    # Sorted, so that sums of floats do not depend on the order of the mappings.
    ids = sorted(references)
    said = [tokenize(predictions[i]) for i in ids]
    expected = [[tokenize(caption) for caption in references[i]] for i in ids]
    said_words = [split_at_blanks(tokens) for tokens in said]
    expected_words = [[split_at_blanks(tokens) for tokens in of_image] for of_image in expected]
    return PerImageScores(
        image_ids=tuple(ids),
        bleu=bleu_counts(said_words, expected_words),
        cider=100 * np.array(cider_d(said_words, expected_words)),
        rouge_l=100 * np.array(rouge_l(said, expected)),
    )


def score(predictions: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> Scores:
    """`measure`, and the scores of all images together."""
    return measure(predictions, references).scores()


def _named(ids: Collection[str]) -> str:
    """How many images, and the first of them."""
    named = first_few(list(map(repr, sorted(ids))), 3)
    return f"{len(ids)} image{'s' if len(ids) > 1 else ''}: {named}"
