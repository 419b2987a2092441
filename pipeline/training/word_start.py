"""Before the first step: the projector learns which words people say of an image.

Outputs of a fresh projector mean nothing to the frozen language model, and hundreds of steps pass until they
resemble words. Here they are compared with the model's word embeddings alone. The model itself does not run,
so a pass over the images takes seconds.

B: images of a batch, P: tokens of an image, W: words that captions have, D_l: width of the language model.
"""

import logging
import math
import time
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.files.batched import batched
from pipeline.hardware.progress import bar
from pipeline.model.vision_language_model import VisionLanguageModel
from pipeline.params.schema import TrainParams
from pipeline.training.batches import TrainingData

logger = logging.getLogger(__name__)

_IMAGES = 32  # in a step, or fewer:
_MOST_SCORES = 2**26  # numbers in [B, P, W], of which a few copies exist at a time
# A word's logit for an output that equals its embedding.
_SHARPNESS = 20.0


def start_by_words(model: VisionLanguageModel, data: TrainingData, params: TrainParams) -> None:
    """Train the projector for `word_passes` passes to name the words of each image's captions.

    Each token of an image is a distribution over words (a softmax of its products with their embeddings), and
    the image's distribution is their mean: one token may stand for one object. It is compared with how often
    the captions have each word, rare words counting more (tf-idf). A second loss draws each token to the mean
    embedding of its words, as a VQ-VAE's commitment loss does (van den Oord et al. 2017, arXiv 1711.00937).
    """
    start, projector = time.monotonic(), model.projector
    words = _CaptionWords(data)
    if not words.images:
        return
    device, norm = model.language_model.device, model.language_model.embedding_norm()
    with torch.no_grad():
        embeddings = model.language_model.embed(words.ids.to(device)).float()  # [W, D_l]
    optimizer = torch.optim.AdamW(projector.parameters(), lr=params.learning_rate, weight_decay=0.0)
    torch.manual_seed(params.seed)
    rng = np.random.default_rng(params.seed)
    some = rng.permutation(words.images)[:_IMAGES].tolist()
    sample = data.features.read(some).to(device).float()  # [n, P, D_v]
    length = projector.output_norm(sample)
    at_a_time = max(1, min(_IMAGES, _MOST_SCORES // (sample.shape[1] * len(embeddings))))
    total = params.word_passes * len(words.images)
    with bar("words", "images", total) as progress:
        for _ in range(params.word_passes):
            for images in batched(rng.permutation(words.images).tolist(), at_a_time):
                outputs = projector(data.features.read(images).to(device).float())  # [B, P, D_l]
                scores = (outputs @ embeddings.T * (_SHARPNESS / norm**2)).log_softmax(-1)  # [B, P, W]
                of_image = scores.logsumexp(1) - math.log(scores.shape[1])  # [B, W]
                loss = -(words.shares(images).to(device) * of_image).sum(-1).mean()
                distance = (outputs - scores.exp() @ embeddings).square().sum(-1).mean() / norm**2
                optimizer.zero_grad()
                (loss + distance).backward()
                optimizer.step()
                progress.update(len(images))
    # As long as before: means of embeddings are shorter than embeddings.
    projector.scale_output(sample, length)
    seconds = time.monotonic() - start
    logger.info("the projector started by the captions' %d words, in %.1f s", len(words.ids), seconds)


class _CaptionWords:
    """The tokens that occur in captions, and how much each counts for an image.

    Attributes:
        ids: `[W]`, ascending.
        images: those that have a caption.
    """

    def __init__(self, data: TrainingData) -> None:
        self._captions = data.tokens.captions
        self.images = [image for image, captions in enumerate(self._captions) if any(map(len, captions))]
        of_images = [np.unique(np.concatenate(self._captions[image])) for image in self.images]
        ids, counts = np.unique(np.concatenate(of_images or [np.zeros(0, int)]), return_counts=True)
        self.ids = torch.from_numpy(ids.astype(np.int64))
        # A word of every image tells none apart, and weighs 0.
        self._weights: NDArray[np.float64] = np.log(len(self.images) / counts)  # [W]

    def shares(self, images: Sequence[int]) -> Tensor:
        """The share of each word in an image's captions, by tf-idf: `[B, W]`, rows sum to 1 (or are 0)."""
        counts = np.zeros((len(images), len(self.ids)))
        for row, image in zip(counts, images, strict=True):
            np.add.at(row, np.searchsorted(self.ids.numpy(), np.concatenate(self._captions[image])), 1.0)
        weighted = counts * self._weights
        totals = weighted.sum(axis=1, keepdims=True)
        return torch.from_numpy(weighted / np.where(totals > 0, totals, 1.0)).float()
