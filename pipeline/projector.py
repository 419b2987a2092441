"""The one part that is trained: a two-layer MLP from image features to word embeddings.

P: tokens of an image, D_v: width of the encoder, D_l: width of the language model.
"""

import torch
from torch import Tensor, nn


class Projector(nn.Module):
    """Linear, GELU, Linear: `[.., D_v]` -> `[.., D_l]` (the connector of LLaVA-1.5, Liu et al. 2023)."""

    def __init__(self, width_in: int, hidden_size: int, width_out: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.hidden = nn.Linear(width_in, hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_size, width_out)

    def forward(self, features: Tensor) -> Tensor:
        """Image features `[.., D_v]` -> embeddings `[.., D_l]`."""
        embeddings: Tensor = self.output(self.dropout(nn.functional.gelu(self.hidden(features))))
        return embeddings

    @torch.no_grad()
    def scale_output(self, features: Tensor, norm: float) -> None:
        """Scale the last layer so that `features` `[.., D_v]` come out with Euclidean norm `norm` on average.

        A fresh layer's outputs are many times longer than word embeddings, which a frozen model reads as
        noise for the first hundreds of steps.
        """
        self.eval()
        factor = norm / float(self(features).norm(dim=-1).mean())
        self.output.weight.mul_(factor)
        self.output.bias.mul_(factor)
        self.train()
