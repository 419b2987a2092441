"""Attention to constant first words whose keys and values are computed once, not in every step.

Without adapters nothing that is trained comes before these words, so their keys and values never change.

B: rows, T: positions, K: known words among them, H: heads, H_k: heads of keys and values, D_h: their width.
"""

from typing import Any

from torch import Tensor, cat, nn

_NAME = "sdpa_with_known_words"


def use_known_words(model: Any) -> None:
    """Let a model of `transformers` take the argument `known_words`; without it nothing changes.

    "keep" keeps the keys and values of a pass over the K words; "attend" lets a pass attend to them.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(_NAME, _attend)
    AttentionMaskInterface.register(_NAME, sdpa_mask)
    model.set_attn_implementation(_NAME)


def _attend(
    attention: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Compute attention: query `[B, H, T-K, D_h]`, key and value `[B, H_k, T-K, D_h]` -> `[B, T-K, H, D_h]`.

    `mask` is `[B, 1, T-K, T]`.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    known_words = options.pop("known_words", None)
    if known_words == "keep":
        attention.register_buffer("known_key", key, persistent=False)  # [1, H_k, K, D_h]
        attention.register_buffer("known_value", value, persistent=False)  # [1, H_k, K, D_h]
    elif known_words == "attend":
        key, value = _behind(attention.known_key, key), _behind(attention.known_value, value)
    attended: tuple[Tensor, None] = sdpa_attention_forward(attention, query, key, value, mask, **options)
    return attended


def _behind(known: Any, states: Tensor) -> Tensor:
    return cat([known.expand(states.shape[0], -1, -1, -1), states], dim=2)  # [B, H_k, T, D_h]
