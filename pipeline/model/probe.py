"""Probe a language model that was just loaded: refuse one that cannot be trained on packed captions.

A few tokens show whether the model's own pass, a packed pass and a cached step agree.

T: positions, D_l: width of the model.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pipeline.errors import PipelineError
from pipeline.model.packing import pack

if TYPE_CHECKING:
    from pipeline.model.language_model import LanguageModel

_PREFIX, _CAPTION = 3, 3  # tokens
# Relative distance of hidden states that rounding explains, between passes of other shapes. Measured for 30
# layers (SmolLM2-135M), in NF4 and without: 1.3e-6 in float32 and 0.024 in bfloat16.
_TOLERANCE = {torch.float32: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.1}
# The same between passes of equal shape. Measured, in float32 and bfloat16: 0 for attention, 2e-7 for
# mixtures of experts; at least 2e-4 where captions mix, in models of two random layers.
_EQUAL_SHAPES = 2e-5


@torch.no_grad()
def require_packable(model: "LanguageModel") -> None:
    """Raise PipelineError for a model that treats packed captions differently from separate captions.

    It must keep the captions of a sequence apart, follow mask and positions, continue from a cache, and
    compute logits with its head alone. The probe makes five passes over a few tokens and changes nothing.
    """
    ids = torch.arange(_PREFIX + 2 * _CAPTION, device=model.device) % model.vocabulary
    words = model.embed(ids).unsqueeze(0)  # [1, T, D_l]
    prefix, first, second = torch.split(words, [_PREFIX, _CAPTION, _CAPTION], dim=1)
    separate = torch.cat([prefix, second], dim=1)  # [1, T, D_l]
    tolerance = _TOLERANCE[prefix.dtype]
    try:
        model.require_window(separate.shape[1])
        own = model.model.base_model(inputs_embeds=separate, use_cache=False).last_hidden_state[0]  # [T, D_l]
        batch = pack([[[0] * _CAPTION, [0] * _CAPTION]], _PREFIX).to(model.device)
        packed, changed = (
            model.hidden_states(torch.cat([prefix, other, second], dim=1), batch.mask, batch.positions)[0]
            for other in (first, first.flip(1))
        )
        if _distance(packed[-_CAPTION:], changed[-_CAPTION:]) > _EQUAL_SHAPES:
            raise _refusal(model, "mixes captions that share a sequence")
        if _distance(packed[-_CAPTION:], own[-_CAPTION:]) > tolerance:
            raise _refusal(model, "ignores the mask or the positions of captions that share a sequence")
        cache = model.new_cache()
        start = model.model(inputs_embeds=separate[:, :-1], past_key_values=cache, use_cache=True)
        cache.batch_repeat_interleave(2)
        cache.batch_select_indices(torch.tensor([1], device=model.device))
        if _distance(model.next_hidden_states(separate[:, -1:], cache)[0], own[-1:]) > tolerance:
            raise _refusal(model, "computes other values with its cache than without it")
        logits, ours = start.logits[0, -1].float(), model.logits(own[-2])  # [V]
        close = max(0.01, tolerance / 2)
        if not torch.allclose(logits, ours, rtol=close, atol=close * float(logits.abs().max())):
            raise _refusal(model, "scales or caps its logits, which training does not do yet")
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = f"cannot be run on embeddings, positions and a cache ({type(error).__name__}: {error})"
        raise _refusal(model, " ".join(reason.split())) from error


@torch.no_grad()
def same_at_some_positions(model: "LanguageModel") -> bool:
    """Check that hidden states of some positions, computed alone, are those of a pass over all positions."""
    batch = pack([[[0], [0] * _CAPTION], [[0] * _CAPTION]], _PREFIX).to(model.device)
    ids = torch.arange(batch.owners.numel(), device=model.device) % model.vocabulary
    words = model.embed(ids.view_as(batch.owners))  # [B, T, D_l]
    arguments = words, batch.mask, batch.positions
    everywhere = model.hidden_states(*arguments).flatten(0, 1)[batch.predicting]  # [M, D_l]
    there = model.hidden_states(*arguments, batch.predicting)  # [M, D_l]
    return there.shape == everywhere.shape and _distance(there, everywhere) <= _TOLERANCE[there.dtype]


def _refusal(model: "LanguageModel", reason: str) -> PipelineError:
    return PipelineError(
        f"{model.spec['name']} ({type(model.model).__name__}) {reason}. Models with full attention work: "
        "Llama, Qwen2, Qwen3, Gemma 3, Phi, GPT-NeoX. Fix: choose another language_model.name."
    )


def _distance(states: Tensor, others: Tensor) -> float:
    """Return the largest distance of two positions' hidden states `[T, D_l]`, relative to their norm."""
    states, others = states.float(), others.float()
    return float(((states - others).norm(dim=-1) / others.norm(dim=-1)).max())
