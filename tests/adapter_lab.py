"""What tests of adapters share."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from pipeline.hardware.device import choose_placement
from pipeline.model.language_model import LanguageModel
from pipeline.params.schema import LoraParams

CPU = choose_placement("cpu")
LORA = LoraParams(rank=4, alpha=16.0, dropout=0.0, targets=("q_proj", "v_proj"))
OFF = replace(LORA, rank=0)
# The tiny Llama is 64 wide, and its grouped values 32; it has two layers.
SHAPES = {
    f"lora.model.layers.{layer}.self_attn.{name}.lora_{matrix}.weight": shape
    for layer in (0, 1)
    for name, width in (("q_proj", 64), ("v_proj", 32))
    for matrix, shape in (("A", (4, 64)), ("B", (width, 4)))
}
PROJECTOR = {"hidden.weight", "hidden.bias", "output.weight", "output.bias", "mean", "scale"}


def checkpoint(folder: Path, epoch: int = 2) -> Path:
    return folder / "checkpoints" / f"epoch_{epoch:03d}.safetensors"


def hidden(model: LanguageModel, seed: int = 0) -> Tensor:
    """The last hidden states of six random embeddings, `[1, 6, D_l]`."""
    embeddings = torch.randn(1, 6, model.width, generator=torch.Generator().manual_seed(seed))
    mask = torch.ones(6, 6, dtype=torch.bool).tril()[None, None]
    dtype = model.embed(torch.tensor([0])).dtype
    return model.hidden_states(embeddings.to(dtype), mask, torch.arange(6)[None])
