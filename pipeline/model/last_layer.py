"""The last decoder layer, computed behind its attention only at the positions that predict.

Keys and values of all positions are needed, but behind attention (residual, norms, MLP: three quarters to
five sixths of a layer's weights) every position is computed for itself, and most predict nothing.

B: rows, T: positions, M: positions that predict, D_l: width of the language model.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

# The names of these parts in Llama, Qwen, Gemma, Phi, GPT-NeoX and most others.
_NORM, _ATTENTION = "input_layernorm", ("self_attn", "attention")


class LastLayer:
    """Replaces the `forward` of a model's last layer, which computes as before outside of `only_at`.

    Attributes:
        parts: what is compiled: attention, and what comes behind it.
    """

    def __init__(self, layer: nn.Module) -> None:
        """Raises StopIteration or AttributeError if the layer has no parts of the known names."""
        name = next(name for name in _ATTENTION if hasattr(layer, name))
        self._predicting: Tensor | None = None
        self._whole = layer.forward
        self._attend = _NormAndAttention(getattr(layer, _NORM), getattr(layer, name))
        # The same modules but for attention.
        self._behind = copy.copy(layer)
        self._behind._modules = {**layer._modules, name: _KnownAttention()}
        self.parts = (self._attend, self._behind)
        layer.forward = self._forward

    @contextmanager
    def only_at(self, predicting: Tensor | None) -> Iterator[None]:
        """Let the layer return `[1, M, D_l]`: positions by their index `[M]` among all B·T; None: all."""
        self._predicting = predicting
        try:
            yield
        finally:
            self._predicting = None

    def _forward(self, hidden: Tensor, **arguments: Any) -> Any:
        if self._predicting is None:
            return self._whole(hidden, **arguments)
        attended = self._attend(hidden, **arguments)  # [B, T, D_l]
        inputs, outputs = (
            states.flatten(0, 1)[self._predicting].unsqueeze(0) for states in (hidden, attended)
        )
        return self._behind(inputs, **{**arguments, "attention_mask": outputs})  # [1, M, D_l]


class _NormAndAttention(nn.Module):
    def __init__(self, norm: nn.Module, attention: nn.Module) -> None:
        super().__init__()
        self.norm, self.attention = norm, attention

    def forward(self, hidden: Tensor, **arguments: Any) -> Tensor:
        attended: Tensor = self.attention(self.norm(hidden), **arguments)[0]
        return attended


class _KnownAttention(nn.Module):
    """Stands for attention whose outputs are known: the layer hands them on in the place of the mask."""

    def forward(self, *_: Any, attention_mask: Tensor, **__: Any) -> tuple[Tensor, None]:
        return attention_mask, None
