"""Probe a language model that was just loaded: refuse one that cannot be trained on packed captions.

A few tokens show what a model's name does not: whether its own pass, a packed pass and a cached step agree.

T: positions, D_l: width of the model.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pipeline.errors import PipelineError
from pipeline.model.packing import pack

if TYPE_CHECKING:
    from pipeline.model.language_model import LanguageModel

_PREFIX, _CAPTION = 4, 5  # tokens
# Relative distance of hidden states that rounding explains, between passes of other shapes. Measured, in NF4 and
# without: 1.3e-6 in float32 and 0.024 in bfloat16 for 30 layers (SmolLM2-135M).
_TOLERANCE = {torch.float32: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.1}
# The same between passes of equal shape. Measured, in float32 and bfloat16: 0 for attention, 2e-7 for mixtures of
# experts; 2e-4 and more where captions mix, in models of two random layers.
_EQUAL_SHAPES = 2e-5


@torch.no_grad()
def require_packable(model: "LanguageModel") -> None:
    """Refuse, with PipelineError, a model that does other things to packed captions than to separate ones.

    It must compute its logits with its head alone, keep captions of one sequence apart, follow our position
    ids, and continue from a cache as generation uses it. Leaves nothing behind.
    """
    ids = torch.arange(_PREFIX + 2 * _CAPTION, device=model.device) % model.vocabulary
    words = model.embed(ids).unsqueeze(0)  # [1, T, D_l]
    prefix, first, second = words.split([_PREFIX, _CAPTION, _CAPTION], dim=1)
    tolerance = _TOLERANCE[words.dtype]
    try:
        model.require_window(_PREFIX + _CAPTION)
        alone = _own_states(model, torch.cat([prefix, second], dim=1))
        _require_plain_head(model, torch.cat([prefix, second], dim=1), alone)
        batch = pack([[[0] * _CAPTION, [0] * _CAPTION]], _PREFIX, None).to(model.device)
        packed, changed = (
            model.hidden_states(torch.cat([prefix, caption, second], dim=1), batch.mask, batch.positions)[0]
            for caption in (first, first.flip(1))
        )
        if _distance(packed[-_CAPTION:], changed[-_CAPTION:]) > _EQUAL_SHAPES:
            raise _refused(model, "mixes captions that share a sequence")
        if _distance(packed[-_CAPTION:], alone[-_CAPTION:]) > tolerance:
            raise _refused(
                model, "does not follow the positions and the mask of captions that share a sequence"
            )
        if _distance(_cached_states(model, prefix, second), alone[-_CAPTION:]) > tolerance:
            raise _refused(model, "computes something else from its cache than without it")
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = f"cannot be run on embeddings, positions and a cache ({type(error).__name__}: {error})"
        raise _refused(model, " ".join(reason.split())) from error


def _refused(model: "LanguageModel", reason: str) -> PipelineError:
    return PipelineError(
        f"{model.spec.name} ({type(model.model).__name__}) {reason}. Models of full attention work, such as "
        "Llama, Qwen2, Qwen3, Gemma, Phi and GPT-NeoX. Fix: choose another language_model.name."
    )


def _require_plain_head(model: "LanguageModel", words: Tensor, hidden: Tensor) -> None:
    own = model.model(inputs_embeds=words, use_cache=False).logits[0].float()  # [T, V]
    if not torch.allclose(own, model.logits(hidden), rtol=0.01, atol=0.01 * float(own.abs().max())):
        raise _refused(model, "scales or caps its logits, which training here does not do yet")


def _own_states(model: "LanguageModel", words: Tensor) -> Tensor:
    """What the model itself makes of embeddings `[1, T, D_l]`: hidden states `[T, D_l]`."""
    states: Tensor = model.model.base_model(inputs_embeds=words, use_cache=False).last_hidden_state[0]
    return states


def _cached_states(model: "LanguageModel", prefix: Tensor, caption: Tensor) -> Tensor:
    """Hidden states `[_CAPTION, D_l]` of a caption that continues from a cache, as in generation."""
    cache = model.new_cache()
    model.next_hidden_states(prefix, cache)
    cache.batch_repeat_interleave(2)
    start = model.next_hidden_states(caption[:, :-1].repeat(2, 1, 1), cache)[1]
    cache.batch_select_indices(torch.tensor([1], device=model.device))
    return torch.cat([start, model.next_hidden_states(caption[:, -1:], cache)[0]])


def _distance(states: Tensor, others: Tensor) -> float:
    """Largest Euclidean distance of two positions' hidden states `[T, D_l]`, relative to their length."""
    states, others = states.float(), others.float()
    return float(((states - others).norm(dim=-1) / others.norm(dim=-1)).max())
