"""The one part that is trained: a two-layer MLP from image features to word embeddings.

P: tokens of an image, D_v: width of the encoder, D_l: width of the language model.
"""

import torch
from torch import Tensor, nn


class Projector(nn.Module):
    """Linear, GELU, Linear: `[.., D_v]` -> `[.., D_l]` (the connector of LLaVA-1.5, Liu et al. 2023)."""

    def __init__(self, width_in: int, hidden_size: int, width_out: int, dropout: float = 0.0) -> None:
        super().__init__()
        # Buffers, so that a checkpoint carries them; the identity until `standardize` is called.
        self.mean = nn.Buffer(torch.zeros(width_in))  # [D_v]
        self.scale = nn.Buffer(torch.ones(()))
        self.hidden = nn.Linear(width_in, hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_size, width_out)

    def forward(self, features: Tensor) -> Tensor:
        """Image features `[.., D_v]` -> embeddings `[.., D_l]`."""
        centered = (features - self.mean) * self.scale
        embeddings: Tensor = self.output(self.dropout(nn.functional.gelu(self.hidden(centered))))
        return embeddings

    @torch.no_grad()
    def standardize(self, features: Tensor) -> None:
        """Center inputs on the mean of `features` `[.., D_v]` and scale them to unit variance overall.

        Most of a feature's length is common to all images and tells none apart. There is one scale for all
        channels, so that they keep their proportions.
        """
        rows = features.flatten(0, -2)  # [n, D_v]
        self.mean.copy_(rows.mean(dim=0))
        variance = rows.var(dim=0, correction=min(1, len(rows) - 1)).mean()
        # One row, or equal rows, leave nothing to scale.
        self.scale.copy_(variance.rsqrt() if variance > 0 else torch.ones(()))

    @torch.no_grad()
    def output_norm(self, features: Tensor) -> float:
        """Return the mean Euclidean norm of what `features` `[.., D_v]` become, without dropout."""
        self.eval()
        norm = float(self(features).norm(dim=-1).mean())
        self.train()
        return norm

    @torch.no_grad()
    def scale_output(self, features: Tensor, norm: float) -> None:
        """Scale the last layer so that `features` `[.., D_v]` come out with Euclidean norm `norm` on average.

        A fresh layer's outputs are many times longer than word embeddings, which a frozen model reads as
        noise for the first hundreds of steps.
        """
        factor = norm / self.output_norm(features)
        self.output.weight.mul_(factor)
        self.output.bias.mul_(factor)
