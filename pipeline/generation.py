"""Captions from image features: batched greedy and beam search.

All prefixes have one length (a fixed prompt and P image tokens), so nothing is padded on the left and the
caption of an image does not depend on its batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.caption_model import CaptionModel
from pipeline.params import GenerateParams


@dataclass(frozen=True)
class Generated:
    """Token ids of one caption, and whether it ended by itself."""

    ids: tuple[int, ...]
    finished: bool


@torch.inference_mode()
def generate_ids(
    model: CaptionModel, features: Tensor, params: GenerateParams, batch_size: int
) -> Iterator[Generated]:
    """Yield the caption of each image of `features` `[n, P, D_v]`, in order.

    Ids stop before EOS; a caption that reached `max_new_tokens` without it is not `finished`.
    """
    model.eval()
    eos = model.prompt.eos
    for batch in torch.split(features, batch_size):
        prefix = model.embed_prefix(batch.to(model.language_model.device))  # [B, L, D_l]
        output = model.language_model.model.generate(
            inputs_embeds=prefix,
            attention_mask=torch.ones(prefix.shape[:2], dtype=torch.long, device=prefix.device),
            do_sample=False,
            num_beams=params.beams,
            max_new_tokens=params.max_new_tokens,
            # Greedy search has no use for it, and warns.
            length_penalty=params.length_penalty if params.beams > 1 else None,
            no_repeat_ngram_size=params.no_repeat_ngram_size,
            eos_token_id=eos,
            # Ids behind EOS are cut off below, so what pads there does not matter.
            pad_token_id=eos,
        )  # [B, up to max_new_tokens]
        for row in output.tolist():
            finished = eos in row
            yield Generated(tuple(row[: row.index(eos)] if finished else row), finished)
