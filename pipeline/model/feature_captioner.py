"""A checkpoint loaded together with the frozen language model that it names: features in, captions out.

n: images, P: tokens of an image, D_v: width of the encoder.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, repeat
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from pipeline.captions import SimilarCaptions
from pipeline.errors import PipelineError
from pipeline.hardware.device import Placement
from pipeline.metrics.consensus import Consensus, idf_rows
from pipeline.model.adapters import adapter_params, inject_adapters
from pipeline.model.checkpoints import Checkpoint, CheckpointInfo
from pipeline.model.generation import generate_candidates
from pipeline.model.language_model import load_language_model
from pipeline.model.packing import caption_labels, pack
from pipeline.model.vision_language_model import VisionLanguageModel
from pipeline.params.schema import GenerateParams
from pipeline.retrieval.memory import Memory
from pipeline.text.prompt import CaptionTokenizer

# Features `[n, P, D_v]`, the texts about each of these images, the captions of its neighbors, and the
# question that the texts answer (None: they are captions).
LossBatch = tuple[Tensor, Sequence[Sequence[str]], Sequence[SimilarCaptions] | None, Sequence[str | None]]

CAPTIONS_ALONE = (
    "This model was trained on captions alone and cannot answer questions. Fix: ask for a place, or train on "
    "questions (docs/questions.md)."
)
# Nearest images whose captions a caption is compared with, and how many of these captions are candidates
# themselves. 20 or 50 images, or more weight on the nearer ones, measured the same (docs/results.md).
CONSENSUS_IMAGES = 10
_SIMILAR_CANDIDATES = 10

# The search of a checkpoint without scores. People say the same three words twice in 1 of 160 captions.
_UNSCORED_SEARCH = GenerateParams(
    beams=3, max_new_tokens=None, length_penalty=1.0, no_repeat_ngram_size=3, consensus=1.0
)
# The parts of a language model that must be those of training, and their names in errors.
_PARTS = {"weights": "weights", "tokenizer": "tokenizer files", "end_ids": "end-of-sequence tokens"}


@dataclass(frozen=True)
class GeneratedCaption:
    """A caption, and whether it ended by itself or was cut off at the length limit."""

    text: str
    finished: bool


@dataclass(frozen=True)
class ScoredCaption(GeneratedCaption):
    """A caption with the mean log-probability (nats) of its tokens, as `generation.Generated` defines it."""

    score: float = field(compare=False)


@dataclass(eq=False)
class FeatureCaptioner:
    """Captions features with the projector, language model, adapters and tokenizer of a checkpoint.

    `VisionLanguageModel` computes on tensors, and `regions.captioner.Captioner` reads images.
    """

    model: VisionLanguageModel
    tokenizer: CaptionTokenizer
    info: CheckpointInfo
    memory: Memory | None

    @classmethod
    def load(
        cls,
        checkpoint: Checkpoint,
        placement: Placement,
        model_cache: Path | None,
        memory: Memory | None = None,
    ) -> Self:
        """Load the frozen language model that a checkpoint names, with its projector and adapters.

        `memory` is where captions of similar images come from, if any.

        Raises PipelineError when model or tokenizer are not those that the checkpoint was trained with, or
        its adapters do not fit the model.
        """
        info = checkpoint.info
        params = info.language_model_params()
        tokenizer = CaptionTokenizer(info.prompt_params(), params, model_cache)
        language_model = load_language_model(params, placement, model_cache)
        present = {**language_model.spec, "tokenizer": tokenizer.spec["digest"]}
        trained = {**info.language_model, "tokenizer": info.tokenizer["digest"]}
        for part, name in _PARTS.items():
            if present[part] != trained[part]:
                change = f" from {trained[part]} to {present[part]}" if part == "end_ids" else ""
                raise PipelineError(
                    f"The {name} of {params.name} changed{change} after {checkpoint.file.path} was trained. "
                    "Fix: restore the model's files, or run `dvc repro train`."
                )
        adapters = inject_adapters(language_model, adapter_params(info.lora))
        model = VisionLanguageModel(checkpoint.projector, language_model, tokenizer.prompt, adapters)
        captioner = cls(model, tokenizer, info, memory)
        captioner.use_checkpoint(checkpoint)
        return captioner

    def use_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Load the projector and adapters of another epoch of the training (`checkpoints_of_run`)."""
        self.model.adapters.load_state_dict(checkpoint.adapters, str(checkpoint.file.path))
        self.model.projector = checkpoint.projector.to(self.model.language_model.device)
        self.info = checkpoint.info

    def contexts(self, similar: Sequence[SimilarCaptions] | None) -> list[list[int]] | None:
        """The context of each image: the first caption of each of its nearest neighbors, as token ids.

        None where the prompt shows no captions of similar images.
        """
        params = self.tokenizer.params
        if not params.similar_captions:
            return None
        if similar is None:
            raise ValueError("similar is None, expected the captions of each image's neighbors")
        contexts = []
        for neighbors in similar:
            shown = [texts[0] for texts in neighbors[: params.similar_captions] if texts]
            captions = [self.tokenizer.encode_caption(text) for text in shown]
            whole = [ids for ids in captions if 0 < len(ids) <= params.max_caption_tokens]
            contexts.append(self.model.prompt.context(whole))
        return contexts

    @torch.inference_mode()
    def loss(self, batches: Iterable[LossBatch]) -> float:
        """Return the mean cross-entropy (nats) over all tokens of reference captions, their ends included.

        Captions are cut to `prompt.max_caption_tokens`, as in training; one that was cut has no end.

        Args:
            batches: features `[n, P, D_v]`, and for each of these n images its captions, those of its
                neighbors where the prompt shows them, and the question that is answered instead, if any.
        """
        device = self.model.language_model.device
        total, labels = 0.0, 0
        for features, captions, similar, questions in batches:
            model, contexts = self._ask(similar, questions)
            model.eval()
            rows = [[self._labels(caption) for caption in image_captions] for image_captions in captions]
            prompt, tokens = model.prompt, features.shape[1]
            batch = pack(rows, prompt.prefix_length(tokens), contexts, prompt.context_start(tokens))
            total += float(model.loss(features.to(device), batch.to(device)))
            labels += len(batch.labels)
        return total / labels

    def _labels(self, caption: str) -> list[int]:
        ids, limit = self.tokenizer.encode_caption(caption), self.tokenizer.params.max_caption_tokens
        return caption_labels(ids[:limit], self._end, truncated=len(ids) > limit)

    @property
    def _end(self) -> int | None:
        # A model that never learned to end would be blamed for each end.
        return self.model.prompt.eos if self.info.train.get("supervise_eos", True) else None

    def caption(
        self,
        features: Tensor,
        params: GenerateParams,
        batch_size: int,
        similar: Sequence[SimilarCaptions] | None = None,
        questions: Sequence[str | None] = (),
    ) -> Iterator[ScoredCaption]:
        """Yield the captions of features `[n, P, D_v]`, in order, each when it is finished.

        `similar` are the captions of each image's neighbors, where the prompt shows them or `consensus` of
        `params` weighs them. `questions` has a question about each image, whose answer then takes the place
        of the caption; None asks for a caption.
        """
        model, contexts = self._ask(similar, questions)
        longest = max(self.info.longest_caption, self.info.longest_answer or 0 if any(questions) else 0)
        limited = replace(params, max_new_tokens=params.max_new_tokens or longest)
        searches = generate_candidates(model, features, limited, batch_size, contexts)
        decode = self.tokenizer.decode_caption
        for place, search in enumerate(searches):
            captions = [ScoredCaption(decode(found.ids), found.finished, found.score) for found in search]
            is_caption = not questions or questions[place] is None
            if params.consensus and similar is not None and is_caption:
                image = slice(place, place + 1)
                yield self._choose(features[image], captions, similar[image], limited)
            else:
                yield captions[0]

    def _choose(
        self,
        features: Tensor,
        found: Sequence[ScoredCaption],
        similar: Sequence[SimilarCaptions],
        params: GenerateParams,
    ) -> ScoredCaption:
        """Choose the caption that the model finds likely and that agrees with captions of similar images.

        Candidates are those that the search found, and the captions of similar images that agree best with
        the others. The value of a caption is its score plus `consensus` of `params` times its agreement.

        Args:
            features: `[1, P, D_v]`.
            found: what the search for this image ended with.
            similar: the captions of this image's neighbors, in a list.
            params: how captions are decoded; a caption of a similar image has to keep to it.
        """
        near = similar[0][:CONSENSUS_IMAGES]
        said = list(dict.fromkeys(chain.from_iterable(near)))
        if not said:
            return found[0]
        best = np.argsort(-self._consensus.agreement(said, near), kind="stable")[:_SIMILAR_CANDIDATES]
        candidates = [*found, *self._score(features, [said[place] for place in best], similar, params)]
        agreement = self._consensus.agreement([caption.text for caption in candidates], near)
        values = [caption.score for caption in candidates] + params.consensus * agreement
        return candidates[int(np.argmax(values))]

    def _score(
        self,
        features: Tensor,
        captions: Sequence[str],
        similar: Sequence[SimilarCaptions],
        params: GenerateParams,
    ) -> list[ScoredCaption]:
        """Score the captions that the model could have written of one image `[1, P, D_v]`."""
        limit = min(self.tokenizer.params.max_caption_tokens, params.max_new_tokens or 0)
        size = params.no_repeat_ngram_size
        encoded = map(self.tokenizer.encode_caption, captions)
        ids = [row for row in encoded if 0 < len(row) < limit and not (size and _repeats(row, size))]
        if not ids:
            return []
        prompt, tokens = self.model.prompt, features.shape[1]
        rows = [[caption_labels(row, self._end, truncated=False) for row in ids]]
        batch = pack(rows, prompt.prefix_length(tokens), self.contexts(similar), prompt.context_start(tokens))
        device = self.model.language_model.device
        values = self.model.log_probabilities(features.to(device), batch.to(device))  # [N]
        return [
            ScoredCaption(self.tokenizer.decode_caption(row), True, part.mean().item())
            for row, part in zip(ids, torch.split(values, [len(row) for row in rows[0]]), strict=True)
        ]

    @cached_property
    def _consensus(self) -> Consensus:
        if self.memory is None:
            raise ValueError("there is no memory, expected the one that the similar captions are from")
        return Consensus([self.memory.captions(row) for row in idf_rows(len(self.memory))])

    def _ask(
        self, similar: Sequence[SimilarCaptions] | None, questions: Sequence[str | None]
    ) -> tuple[VisionLanguageModel, list[list[int]] | None]:
        """Return the model to ask, and each image's context; of questions, each is the end of its context.

        Raises PipelineError for a question to a model that was trained on captions alone.
        """
        contexts = self.contexts(similar)
        if not any(questions):
            return self.model, contexts
        if self.info.longest_answer is None:
            raise PipelineError(CAPTIONS_ALONE)
        own, prompt = self.model, self.model.prompt
        asked = [
            [*context, *(self.tokenizer.encode_question(question) if question else prompt.after)]
            for context, question in zip(contexts or repeat(()), questions, strict=contexts is not None)
        ]
        parts = own.projector, own.language_model, replace(prompt, after=()), own.adapters
        return VisionLanguageModel(*parts), asked


def scored_search(info: CheckpointInfo) -> GenerateParams:
    """Return how the captions of a checkpoint's scores were decoded, or a default without scores.

    Raises PipelineError where the checkpoint says it wrongly.
    """
    if info.generate is None:
        return _UNSCORED_SEARCH
    try:
        return GenerateParams(**info.generate)
    except (TypeError, ValueError) as error:
        raise PipelineError(
            "The settings `generate` in the checkpoint are not those of this version. "
            "Fix: run `dvc repro evaluate`, or name another checkpoint."
        ) from error


def _repeats(ids: Sequence[int], size: int) -> bool:
    """Say whether `size` tokens in a row occur twice."""
    ngrams = [tuple(ids[start : start + size]) for start in range(len(ids) - size + 1)]
    return len(set(ngrams)) < len(ngrams)
