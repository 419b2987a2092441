"""Controls: captions made without a look at the image, which a model's scores are compared with."""

import heapq
import math
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from pipeline.metrics.cider import CiderD, Ngram, length_penalty
from pipeline.metrics.tokenizer import caption_words

# Bounds on the search for the best constant caption: images that score it, candidates that are scored.
MOST_IMAGES = 1000
MOST_CANDIDATES = 20
_SEED = 0  # of the shuffle


def constant_caption(train: Mapping[str, Sequence[str]]) -> str:
    """Return the train caption that scores best (CIDEr-D) as the prediction for every train image.

    `train` has the captions by image id, one image and one caption each at least. All captions are ranked by
    a linear estimate, the best twenty are scored exactly, on at most 1000 images spread over the ids. Of
    equal captions it is the first by text.
    """
    ids = sorted(train)[:: math.ceil(len(train) / MOST_IMAGES)]
    scorer = CiderD([[caption_words(caption) for caption in train[i]] for i in ids])
    # Without clipping the cosine is linear in the reference, so that one mean vector stands for all of them.
    mean: defaultdict[Ngram, float] = defaultdict(float)
    lengths: Counter[int] = Counter()
    for references in scorer.references:
        for reference in references:
            lengths[reference.length] += 1
            for ngram, weight in reference.weights.items():
                if weight:
                    mean[ngram] += weight / reference.norms[len(ngram) - 1] / len(references)

    def rank(text: str) -> tuple[float, str]:
        # Of the mean CIDEr-D over all images, but for clipping and a constant factor; the length penalty is
        # averaged separately.
        caption = scorer.vector(caption_words(text))
        cosines = math.fsum(
            weight / caption.norms[len(ngram) - 1] * mean.get(ngram, 0.0)
            for ngram, weight in caption.weights.items()
            if weight
        )
        penalties = (n * length_penalty(caption.length - length) for length, n in lengths.items())
        return -cosines * math.fsum(penalties), text

    def score(text: str) -> float:
        vector = scorer.vector(caption_words(text))
        return math.fsum(scorer.score(vector, references) for references in scorer.references)

    # One caption at a time: the vectors of all would take kilobytes each.
    texts = {caption for captions in train.values() for caption in captions}
    scores = {text: score(text) for text in heapq.nsmallest(MOST_CANDIDATES, texts, key=rank)}
    return min(scores, key=lambda text: (-scores[text], text))


def shuffle_predictions(predictions: Mapping[str, str]) -> dict[str, str]:
    """Give each of two or more images the prediction of another image.

    A caption depends on its image's features alone, so this is exactly what the model says when its images
    are shuffled, without a second run of the model. The shuffle is one cycle through all images: no image
    keeps its caption. It depends on the ids alone.
    """
    cycle = sorted(predictions)
    random.Random(_SEED).shuffle(cycle)
    giver = dict(zip(cycle, cycle[1:] + cycle[:1], strict=True))
    return {image: predictions[giver[image]] for image in predictions}
