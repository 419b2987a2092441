"""Captions from image features: batched greedy and beam search with a key-value cache.

Both find, token for token, what `transformers`' `generate` finds for each image alone, in less time: the
words before the image are computed once for a batch, and finished captions leave the batch. Without contexts
all prefixes have one length (a fixed prompt and P image tokens), and nothing is padded; contexts are padded,
and nothing attends to the padding. So a caption does not depend on its batch, except through rounding: it
depends on the shapes of the products and can turn a close choice (docs/architecture.md).

B: images of a batch, K: beams, R: rows (captions being generated), t: tokens of each, V: vocabulary,
P: tokens of an image, D_v: width of the encoder, D_l: width of the language model.
"""

import logging
import math
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from transformers import NoRepeatNGramLogitsProcessor

from pipeline.hardware.memory import free_memory
from pipeline.model.packing import pad_contexts
from pipeline.model.vision_language_model import VisionLanguageModel
from pipeline.params.schema import GenerateParams

logger = logging.getLogger(__name__)

# Rows that `auto` generates at a time: on a CPU, and at most.
_CPU_ROWS, _MOST_ROWS = 64, 1024
# The part of a GPU's free memory that they may fill, and the longest captions that are expected.
_SHARE, _LONGEST = 0.5, 64


@dataclass(frozen=True)
class Generated:
    """The token ids of a caption.

    Attributes:
        ids: the tokens before EOS.
        finished: whether EOS followed them.
        score: the mean log-probability (nats) of a token, over `ids` and EOS, if it followed. It has the same
            meaning for greedy and beam search, and does not depend on `length_penalty`. It is not compared,
            because its last digits depend on the batch.
    """

    ids: tuple[int, ...]
    finished: bool
    score: float = field(compare=False)


@torch.inference_mode()
def generate_candidates(
    model: VisionLanguageModel,
    features: Tensor,
    params: GenerateParams,
    batch_size: int,
    contexts: Sequence[Sequence[int]] | None = None,
) -> Iterator[list[Generated]]:
    """Yield the captions that the search of each image of `features` `[n, P, D_v]` ended with, best first.

    A greedy search ends with one caption, a search of K beams with K at most.
    `contexts` are the token ids of each image's context (`Prompt.context`); None: without contexts.

    A caption ends before the tokenizer's EOS or another end token of the model; one that reaches
    `max_new_tokens` first is not `finished`. At most `batch_size` rows (images times beams) are generated at
    a time, half as many where memory does not suffice for them. Raises ValueError without `max_new_tokens`:
    only a checkpoint knows the default.
    """
    limit = params.max_new_tokens
    if limit is None:
        raise ValueError("max_new_tokens is None, expected a number of tokens")
    model.eval()
    language_model, repeat = model.language_model, params.no_repeat_ngram_size
    ends = language_model.end_ids | {model.prompt.eos}
    search = _greedy_search if params.beams == 1 else _beam_search
    start = 0
    while start < len(features):
        size = min(images_per_batch(params, batch_size), language_model.most_images)
        images, part = features[start : start + size], slice(start, start + size)
        try:
            # No name holds the decoder: its memory must be free for another attempt.
            inputs = images.to(language_model.device), contexts and contexts[part]
            found = search(_Decoder(model, *inputs, repeat), params, limit, ends)
        except torch.OutOfMemoryError:
            if len(images) == 1:
                raise
            fewer = language_model.most_images = len(images) // 2
            logger.warning("memory is full: %d images are captioned at once from now on", fewer)
            continue
        yield from found
        start += len(images)


def choose_rows(requested: int | Literal["auto"], model: VisionLanguageModel, image_tokens: int) -> int:
    """Resolve `runtime.generate_batch_size`: the rows (images times beams) that are generated at a time.

    On a GPU, `auto` is a power of two whose rows fill half of the free memory at most.
    """
    device, config = model.language_model.device, model.language_model.model.config
    if requested != "auto":
        return requested
    if device.type != "cuda":
        return _CPU_ROWS
    positions = model.prompt.prefix_length(image_tokens) + model.prompt.longest_context + _LONGEST
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    # Keys and values, twice while rows are selected; and scores in float32, with those that are sorted.
    cached = 2 * 2 * positions * config.num_hidden_layers * heads * head_width * model.before.itemsize
    rows = free_memory(device) * _SHARE / (cached + 4 * 4 * config.vocab_size)
    chosen = 1 << int(math.log2(min(max(rows, 1), _MOST_ROWS)))
    logger.info("%d rows of captions are generated at a time", chosen)
    return chosen


def images_per_batch(params: GenerateParams, batch_size: int) -> int:
    """Count the images whose captions are generated together: those of `batch_size` beams, at least one."""
    return max(1, batch_size // params.beams)


class _Decoder:
    """Log-probabilities of the next token for rows of captions.

    Attributes:
        ids: `[R, t]`, the tokens of each row.
        scores: `[R, V]`, the log-probabilities of the next token.
    """

    def __init__(
        self,
        model: VisionLanguageModel,
        features: Tensor,
        contexts: Sequence[Sequence[int]] | None,
        no_repeat_ngram_size: int,
    ) -> None:
        self._model = model.language_model
        self._guard = NoRepeatNGramLogitsProcessor(no_repeat_ngram_size) if no_repeat_ngram_size else None
        self._cache = self._model.new_cache()
        # The words before the image are the same for all: they are computed for one row, then repeated.
        self._model.next_hidden_states(model.before, self._cache)
        self._cache.batch_repeat_interleave(len(features))
        self.ids = torch.empty(len(features), 0, dtype=torch.long, device=features.device)
        # [R, L + t], false where contexts are padded; None: nothing is padded.
        self._mask: Tensor | None = None
        context_ids = None
        if contexts is not None:
            context_ids, is_context = (tensor.to(features.device) for tensor in pad_contexts(contexts))
            around = len(model.prompt.before) + features.shape[1], len(model.prompt.after)
            self._mask = torch.nn.functional.pad(is_context, around, value=True)
        self._predict(model.embed_image(features, context_ids))

    def append(self, rows: Tensor, tokens: Tensor) -> None:
        """Replace the rows by R' rows that are one token longer.

        Args:
            rows: `[R']`, the present row that each new row continues; a row may occur several times or not at
                all.
            tokens: `[R']`, the token that each new row ends with.
        """
        if not torch.equal(rows, torch.arange(len(self.ids), device=rows.device)):
            self._cache.batch_select_indices(rows)
        self.ids = torch.cat([self.ids[rows], tokens.unsqueeze(1)], dim=1)  # [R', t + 1]
        if self._mask is not None:
            self._mask = torch.nn.functional.pad(self._mask[rows], (0, 1), value=True)
        self._predict(self._model.embed(tokens.unsqueeze(1)))

    def _predict(self, embeddings: Tensor) -> None:
        hidden = self._model.next_hidden_states(embeddings, self._cache, self._mask)[:, -1]  # [R, D_l]
        scores = self._model.logits(hidden).log_softmax(dim=-1)  # [R, V]
        self.scores = self._guard(self.ids, scores) if self._guard else scores


def _greedy_search(
    decoder: _Decoder, _params: GenerateParams, limit: int, end_ids: Set[int]
) -> list[list[Generated]]:
    """Take the likeliest token at each position."""
    images = list(range(len(decoder.ids)))  # the image of each row
    totals = [0.0] * len(images)  # the log-probability of each row's tokens
    captions: dict[int, Generated] = {}
    for length in range(1, limit + 1):
        # `argmax` takes the first of equal scores, as transformers does; `max` may take another.
        tokens = decoder.scores.argmax(dim=-1)  # [R]
        values = decoder.scores.gather(1, tokens.unsqueeze(1)).squeeze(1)  # [R]
        totals = [total + value for total, value in zip(totals, values.tolist(), strict=True)]
        rows = []  # those that go on
        for row, (ids, token) in enumerate(zip(decoder.ids.tolist(), tokens.tolist(), strict=True)):
            score = totals[row] / length
            if token in end_ids:
                captions[images[row]] = Generated(tuple(ids), True, score)
            elif length == limit:
                captions[images[row]] = Generated((*ids, token), False, score)
            else:
                rows.append(row)
        if not rows:
            break
        images, totals = [images[row] for row in rows], [totals[row] for row in rows]
        parents = torch.tensor(rows, device=tokens.device)
        decoder.append(parents, tokens[parents])
    return [[captions[image]] for image in sorted(captions)]


@dataclass
class _Beams:
    """The search for the caption of one image.

    Attributes:
        rows: the decoder's rows of its K beams, best first; a single row before the first token.
        scores: the log-probability of each beam.
        complete: at most K captions that reached their end, each with its rank value, best first.
    """

    image: int
    rows: list[int]
    scores: list[float]
    complete: list[tuple[float, Generated]] = field(default_factory=list)


def _beam_search(
    decoder: _Decoder, params: GenerateParams, limit: int, end_ids: Set[int]
) -> list[list[Generated]]:
    """Search with K beams as `transformers` does with `early_stopping=False`.

    Captions are ranked by log-probability divided by length to the power of `length_penalty`. The search for
    an image ends when K captions are complete and the best beam ranks no better than the worst of them.
    """
    count, device = params.beams, decoder.scores.device
    # Enough that K candidates of an image go on, even if every beam can end with every end token.
    candidates = max(2, 1 + len(end_ids)) * count
    searches = [_Beams(image, [image], [0.0]) for image in range(len(decoder.ids))]
    captions: dict[int, list[Generated]] = {}
    for length in range(1, limit + 1):
        last = length == limit
        beam_scores = torch.tensor([beams.scores for beams in searches], device=device)  # [B, 1 or K]
        totals = decoder.scores.unflatten(0, beam_scores.shape) + beam_scores.unsqueeze(2)  # [B, 1 or K, V]
        values, places = totals.flatten(1).topk(candidates)  # [B, candidates]
        vocabulary = totals.shape[2]
        parents, tokens = (places // vocabulary).tolist(), (places % vocabulary).tolist()
        scores, row_ids = values.tolist(), decoder.ids.tolist()
        next_rows: list[int] = []
        next_tokens: list[int] = []
        unfinished = []
        for n, beams in enumerate(searches):
            longer: list[tuple[float, int, int]] = []  # score, row and token of the candidates that go on
            for rank in range(candidates):
                row, token, score = beams.rows[parents[n][rank]], tokens[n][rank], scores[n][rank]
                ends = token in end_ids
                if not ends and not last:
                    longer.append((score, row, token))
                elif rank < count:
                    ids = row_ids[row] if ends else [*row_ids[row], token]
                    caption = Generated(tuple(ids), ends, score / length)
                    beams.complete.append((score / length**params.length_penalty, caption))
            beams.complete = sorted(beams.complete, key=lambda pair: -pair[0])[:count]
            longer = longer[:count]
            full = len(beams.complete) == count
            if last or (full and longer[0][0] / length**params.length_penalty <= beams.complete[-1][0]):
                captions[beams.image] = [caption for _, caption in beams.complete]
                continue
            beams.rows = list(range(len(next_rows), len(next_rows) + count))
            beams.scores = [score for score, _, _ in longer]
            next_rows += [row for _, row, _ in longer]
            next_tokens += [token for _, _, token in longer]
            unfinished.append(beams)
        if not unfinished:
            break
        searches = unfinished
        decoder.append(torch.tensor(next_rows, device=device), torch.tensor(next_tokens, device=device))
    return [captions[image] for image in sorted(captions)]
