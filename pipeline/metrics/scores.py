"""The scores of a set of captions, as metrics files and the report show them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PipelineError, first_few
from pipeline.metrics.bleu import bleu_counts, bleu_from_counts
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
# Those that the report plots, and that experiments and model cards show.
MAIN_SCORES = ("bleu_1", "bleu_4", "cider", "rouge_l")
# The captions that a model's scores are compared with.
CONTROLS = {
    "constant": "one caption for all",
    "nearest": "nearest training image's",
    "consensus": "consensus of the nearest",
    "shuffled": "the model, images shuffled",
}
# The file, in the folder of predictions, of the best epoch's answers to questions about test images.
ANSWERS = "answers_test.jsonl"
# The answers that a model's answers are compared with.
ANSWER_CONTROLS = {
    "most_frequent": "most frequent answer of its kind",
    "shuffled": "images shuffled",
}


def choice_sentence(evaluation: Mapping[str, Any]) -> str:
    """Return the sentence that says what chose the best epoch; empty where there was only one.

    `evaluation` is the content of metrics/evaluate.json.
    """
    if "choice" not in evaluation:
        return ""
    choice = evaluation["choice"]
    score = SCORES[evaluation["selected_by"]]
    lead = (
        f"epoch {choice['highest_epoch']} leads epoch {choice['next_best_epoch']} by {choice['lead']:.2f}, "
        f"95 % interval {choice['low']:.2f} to {choice['high']:.2f}"
    )
    if choice["decided_by"] != "dev_loss":
        return f"{score} on dev decides: {lead}."
    *epochs, last = choice["candidates"]
    named = f"{', '.join(map(str, epochs))} and {last}"
    return f"{score} on dev does not tell epochs {named} apart ({lead}): the lowest loss on dev decides."


def verdict(evaluation: Mapping[str, Any]) -> str:
    """Return the sentence that names the controls with a higher CIDEr-D than the model; empty if none has.

    `evaluation` is the content of metrics/evaluate.json.
    """
    model = evaluation["test"]["cider"]
    ciders = {name: scores["cider"] for name, scores in evaluation["controls"].items()}
    better = {name: cider for name, cider in ciders.items() if cider > model}
    if not better:
        return ""
    names = " and ".join(f"“{CONTROLS.get(name, name)}”" for name in better)
    figures = " and ".join(f"{cider:.2f}" for cider in better.values())
    return f"The captions say less than {names}: CIDEr-D {model:.2f} against {figures}."


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

    def scores(self) -> dict[str, float]:
        """Return SCORES of all images together, times 100, rounded to four decimals.

        In addition `words`, the mean length of the predictions in tokens, and `images`, their number.
        """
        values = [*self.resample(np.ones((1, len(self.image_ids))))[0], self.bleu[:, -2].mean()]
        names = (*SCORES, "words")
        rounded = {name: round(float(value), 4) for name, value in zip(names, values, strict=True)}
        return {**rounded, "images": len(self.image_ids)}

    def resample(self, weights: NDArray[Any]) -> NDArray[np.float64]:
        """Return the scores `[samples, 6]` (columns: SCORES) of samples with each image `weights` times.

        `weights` is `[samples, images]`. CIDEr-D's idf stays that of all images.
        """
        weights = weights.astype(np.float64)
        total = weights.sum(axis=1)
        bleu = bleu_from_counts(weights @ self.bleu)  # [samples, 4]
        means = [weights @ values / total for values in (self.cider, self.rouge_l)]
        return np.column_stack([bleu, *means])


def measure(predictions: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> PerImageScores:
    """Compare one caption for each image, by image id, with all captions that people wrote of it.

    A prediction without tokens scores 0, except in ROUGE-L if a reference has no tokens either. Raises
    PipelineError when predictions and references are not of the same images.
    """
    missing, unknown = references.keys() - predictions.keys(), predictions.keys() - references.keys()
    faults = {"no prediction for": missing, "a prediction but no references for": unknown}
    if sentences := [f"{fault} {_count(ids)}" for fault, ids in faults.items() if ids]:
        raise PipelineError(
            f"There is {' and '.join(sentences)}. Fix: give predictions and references of the same images; "
            "`vlm score --split` takes the references of one split."
        )
    if empty := [i for i in references if not references[i]]:
        raise PipelineError(f"There are no references for {_count(empty)}. Each image needs a caption.")
    if not references:
        raise PipelineError("There are no images to score. Fix: choose a split with images.")

    # Sorted, so that sums of floats do not depend on the order of the mappings.
    ids = sorted(references)
    tokens = [tokenize(predictions[i]) for i in ids]
    expected = [[tokenize(caption) for caption in references[i]] for i in ids]
    words = [split_at_blanks(caption) for caption in tokens]
    expected_words = [[split_at_blanks(caption) for caption in captions] for captions in expected]
    return PerImageScores(
        image_ids=tuple(ids),
        bleu=bleu_counts(words, expected_words),
        cider=100 * np.array(cider_d(words, expected_words)),
        rouge_l=100 * np.array(rouge_l(tokens, expected)),
    )


def _count(ids: Collection[str]) -> str:
    """Say how many images there are, and name the first."""
    return f"{len(ids)} image{'s' if len(ids) > 1 else ''}: {first_few(list(map(repr, sorted(ids))), 3)}"
