"""Captions from image features: batched greedy and beam search with a key-value cache.

Both find, token for token, what `transformers`' `generate` finds for each image alone, in less time: the
words before the image are computed once for a batch, and what is finished leaves it. All prefixes have one
length (a fixed prompt and P image tokens), so nothing is padded and the caption of an image does not depend
on its batch; but for rounding, which depends on the shape of a product and can turn a close choice
(docs/architecture.md).

B: images of a batch, K: beams, R: rows in the making, V: vocabulary.
"""

from collections.abc import Iterator, Set
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import NoRepeatNGramLogitsProcessor

from pipeline.model.vision_language_model import VisionLanguageModel
from pipeline.params.schema import GenerateParams


@dataclass(frozen=True)
class Generated:
    """Token ids of one caption, whether it ended by itself, and how likely the model finds it.

    Attributes:
        ids: the tokens before EOS.
        finished: whether EOS followed them.
        score: the mean log-probability (nats) of a token, over `ids` and, where it followed, EOS. The
            same for greedy and beam search, whatever `length_penalty` ranked beams by. Equality leaves
            it out: its last digits depend on the batch.
    """

    ids: tuple[int, ...]
    finished: bool
    score: float = field(compare=False)


@torch.inference_mode()
def generate_ids(
    model: VisionLanguageModel, features: Tensor, params: GenerateParams, batch_size: int
) -> Iterator[Generated]:
    """Yield the caption of each image of `features` `[n, P, D_v]`, in order.

    Ids stop before EOS, the tokenizer's or another that the model is known to end with; a caption that
    reached `max_new_tokens` without one is not `finished`. At most `batch_size` rows (images times beams)
    are in the making at a time. Raises ValueError without `max_new_tokens`: what the model was trained on,
    its checkpoint alone knows.
    """
    limit = params.max_new_tokens
    if limit is None:
        raise ValueError("max_new_tokens is None, expected a number of tokens")
    model.eval()
    ends = model.language_model.end_ids | {model.prompt.eos}
    search = _greedy_search if params.beams == 1 else _beam_search
    for batch in torch.split(features, images_at_a_time(params, batch_size)):
        decoder = _Decoder(model, batch.to(model.language_model.device), params.no_repeat_ngram_size)
        yield from search(decoder, params, limit, ends)


def images_at_a_time(params: GenerateParams, batch_size: int) -> int:
    """How many images `generate_ids` works on together: as many as have `batch_size` beams, at least one."""
    return max(1, batch_size // params.beams)


class _Decoder:
    """Log-probabilities of the next token for rows of captions in the making.

    Attributes:
        ids: `[R, t]`, the tokens so far.
        scores: `[R, V]`, the log-probabilities of the next token.
    """

    def __init__(self, model: VisionLanguageModel, features: Tensor, no_repeat_ngram_size: int) -> None:
        self._model = model.language_model
        self._guard = NoRepeatNGramLogitsProcessor(no_repeat_ngram_size) if no_repeat_ngram_size else None
        self._cache = self._model.new_cache()
        # The words before the image are the same for all: computed for one row, then repeated.
        self._model.next_hidden_states(model.embed_before(), self._cache)
        self._cache.batch_repeat_interleave(len(features))
        self.ids = torch.empty(len(features), 0, dtype=torch.long, device=features.device)
        self._predict(model.embed_image(features))

    def append(self, rows: Tensor, tokens: Tensor) -> None:
        """Go on with these rows (each may be left out or be there several times), each one token longer.

        Args:
            rows: `[R']`, indices into the present rows.
            tokens: `[R']`, the token that each of them is followed by.
        """
        if not torch.equal(rows, torch.arange(len(self.ids), device=rows.device)):
            self._cache.batch_select_indices(rows)
        self.ids = torch.cat([self.ids[rows], tokens.unsqueeze(1)], dim=1)  # [R', t + 1]
        self._predict(self._model.embed(tokens.unsqueeze(1)))

    def _predict(self, embeddings: Tensor) -> None:
        hidden = self._model.next_hidden_states(embeddings, self._cache)[:, -1]  # [R, D_l]
        scores = self._model.logits(hidden).log_softmax(dim=-1)  # [R, V]
        self.scores = self._guard(self.ids, scores) if self._guard else scores


def _greedy_search(
    decoder: _Decoder, _params: GenerateParams, limit: int, end_ids: Set[int]
) -> list[Generated]:
    """The likeliest token again and again."""
    images = list(range(len(decoder.ids)))  # of each row
    totals = [0.0] * len(images)  # the log-probability of each row's tokens
    done: dict[int, Generated] = {}
    for length in range(1, limit + 1):
        # argmax, as transformers does: of equal scores it takes the first, max need not.
        tokens = decoder.scores.argmax(dim=-1)  # [R]
        values = decoder.scores.gather(1, tokens.unsqueeze(1)).squeeze(1)  # [R]
        totals = [total + value for total, value in zip(totals, values.tolist(), strict=True)]
        going = []
        for row, (so_far, token) in enumerate(zip(decoder.ids.tolist(), tokens.tolist(), strict=True)):
            score = totals[row] / length
            if token in end_ids:
                done[images[row]] = Generated(tuple(so_far), True, score)
            elif length == limit:
                done[images[row]] = Generated((*so_far, token), False, score)
            else:
                going.append(row)
        if not going:
            break
        rows = torch.tensor(going, device=tokens.device)
        images, totals = [images[row] for row in going], [totals[row] for row in going]
        decoder.append(rows, tokens[rows])
    return [done[image] for image in sorted(done)]


@dataclass
class _Beams:
    """The state of one image's search.

    Attributes:
        rows: the decoder's rows that hold its running beams, best first; one before the first token.
        scores: the log-probability of each.
        ended: at most K captions that reached their end, with what they are ranked by, best first.
    """

    image: int
    rows: list[int]
    scores: list[float]
    ended: list[tuple[float, Generated]] = field(default_factory=list)


def _beam_search(decoder: _Decoder, params: GenerateParams, limit: int, end_ids: Set[int]) -> list[Generated]:
    """Beam search as `transformers` defines it with `early_stopping=False`.

    Captions are ranked by log-probability over length to the power of `length_penalty`. An image's search
    ends when K captions ended and the best running one, as it stands, ranks no better than the worst of
    them.
    """
    count, device = params.beams, decoder.scores.device
    # Of so many candidates of an image K are left to go on with, even if every beam ends in every way.
    candidates = max(2, 1 + len(end_ids)) * count
    open_beams = [_Beams(image, [image], [0.0]) for image in range(len(decoder.ids))]
    done: dict[int, Generated] = {}
    for length in range(1, limit + 1):
        last = length == limit
        running = torch.tensor([beams.scores for beams in open_beams], device=device)  # [B, 1 or K]
        totals = decoder.scores.unflatten(0, running.shape) + running.unsqueeze(2)  # [B, 1 or K, V]
        values, places = totals.flatten(1).topk(candidates)  # [B, candidates]
        vocabulary = totals.shape[2]
        parents, tokens = (places // vocabulary).tolist(), (places % vocabulary).tolist()
        scores, so_far = values.tolist(), decoder.ids.tolist()
        next_rows: list[int] = []
        next_tokens: list[int] = []
        still_open = []
        for n, beams in enumerate(open_beams):
            going: list[tuple[float, int, int]] = []
            for rank in range(candidates):
                row, token, score = beams.rows[parents[n][rank]], tokens[n][rank], scores[n][rank]
                ends = token in end_ids
                if not ends and not last:
                    going.append((score, row, token))
                elif rank < count:
                    ids = so_far[row] if ends else [*so_far[row], token]
                    ended = Generated(tuple(ids), ends, score / length)
                    beams.ended.append((score / length**params.length_penalty, ended))
            beams.ended = sorted(beams.ended, key=lambda e: -e[0])[:count]
            going = going[:count]
            full = len(beams.ended) == count
            if last or (full and going[0][0] / length**params.length_penalty <= beams.ended[-1][0]):
                done[beams.image] = beams.ended[0][1]
                continue
            beams.rows = list(range(len(next_rows), len(next_rows) + count))
            beams.scores = [score for score, _, _ in going]
            next_rows += [row for _, row, _ in going]
            next_tokens += [token for _, _, token in going]
            still_open.append(beams)
        if not still_open:
            break
        open_beams = still_open
        decoder.append(torch.tensor(next_rows, device=device), torch.tensor(next_tokens, device=device))
    return [done[image] for image in sorted(done)]
