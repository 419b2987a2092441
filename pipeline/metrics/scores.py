"""The scores of a set of captions, as metrics files and the report show them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean

from pipeline.errors import PipelineError
from pipeline.metrics.bleu import corpus_bleu
from pipeline.metrics.cider import cider_d
from pipeline.metrics.rouge import rouge_l
from pipeline.metrics.tokenizer import tokenize


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


def score(predictions: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> Scores:
    """Score one caption an image, by image id, against all captions that people wrote of it.

    An empty prediction is scored (0). Raises PipelineError where predictions and references are not
    of the same images.
    """
    _refuse("no prediction for", references.keys() - predictions.keys())
    _refuse("a prediction but no references for", predictions.keys() - references.keys())
    _refuse("an empty list of references for", [i for i in references if not references[i]])
    if not references:
        raise PipelineError("there are no images to score; is the split empty?")

    # Sorted, so that sums of floats do not depend on the order of the mappings.
    ids = sorted(references)
    said = [tokenize(predictions[i]) for i in ids]
    expected = [[tokenize(caption) for caption in references[i]] for i in ids]
    bleu_1, bleu_2, bleu_3, bleu_4 = corpus_bleu(said, expected)
    return Scores(
        bleu_1=bleu_1,
        bleu_2=bleu_2,
        bleu_3=bleu_3,
        bleu_4=bleu_4,
        cider=100 * fmean(cider_d(said, expected)),
        rouge_l=100 * fmean(rouge_l(said, expected)),
        words=fmean(map(len, said)),
        images=len(ids),
    )


def _refuse(what: str, ids: Collection[str]) -> None:
    if ids:
        named = ", ".join(map(repr, sorted(ids)[:3]))
        raise PipelineError(
            f"there is {what} {len(ids)} image{'s' if len(ids) > 1 else ''}: {named}"
            f"{' …' if len(ids) > 3 else ''}; both must be of the same images."
        )
