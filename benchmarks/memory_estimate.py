"""How much memory a training step takes at most, known before it is spent.

The layers run once on the `meta` device, where tensors have shapes and no values, and what autograd keeps
for the backward pass is counted. Nothing is allocated, so this works for any model and batch.

B: rows of a batch, T: positions, D_l: width of the language model, N: labels, V: vocabulary.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import PipelineError
from pipeline.hardware.device import Placement
from pipeline.model.adapters import adapt
from pipeline.model.caption_loss import LABELS_AT_A_TIME
from pipeline.model.language_model import decoder_layers
from pipeline.model.projector import Projector
from pipeline.params.schema import LanguageModelParams, LoraParams, TrainParams

logger = logging.getLogger(__name__)

# A weight, its gradient, AdamW's two moments and its moving average, all in float32.
_BYTES_OF_A_TRAINED_VALUE = 5 * 4
# What cuBLAS and its like take of a device when they are first used.
_CUDA_LIBRARIES = 200e6
# The allocator's pieces that fit nothing.
_FRAGMENTATION = 1.1


class NoEstimateError(Exception):
    """The layers of an architecture that cannot be run without values: a model like any other to train."""


@dataclass(frozen=True)
class LargestBatch:
    """The batch of a run that takes the most memory: rows, positions of a row, labels of all rows."""

    rows: int
    positions: int
    labels: int


def largest_batch(
    lengths: Sequence[Sequence[int]], params: TrainParams, prefix_length: int, processes: int
) -> LargestBatch:
    """The largest micro-batch that one of several processes can meet: every row as long as the longest.

    Args:
        lengths: for each image, the length of each of its captions, EOS included.
        params: `batch_size` and `captions_per_pass` are used.
        prefix_length: positions in front of the captions.
        processes: how many share a batch.
    """
    together = None if params.captions_per_pass == "all" else params.captions_per_pass
    longest = max(sum(sorted(of_image, reverse=True)[:together]) for of_image in lengths)
    rows = math.ceil(params.batch_size / processes)
    return LargestBatch(rows, prefix_length + longest, rows * longest)


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes by purpose."""

    weights: float
    trained: float
    activations: float
    logits: float

    @property
    def total(self) -> float:
        """All together."""
        return _FRAGMENTATION * (self.weights + self.trained + self.activations + self.logits)

    def __str__(self) -> str:
        parts = (f"{name} {value / 1e9:.2f}" for name, value in self.__dict__.items() if value >= 5e6)
        return f"{self.total / 1e9:.2f} GB ({', '.join(parts)})"


def estimate_memory(
    folder: Path,
    language_model: LanguageModelParams,
    lora: LoraParams,
    projector_shape: tuple[int, int],
    batch: LargestBatch,
    dtype: torch.dtype,
    checkpointing: bool,
) -> MemoryEstimate:
    """The peak of a training step.

    Args:
        folder: the language model's; only its config.json is read.
        language_model: how its weights are kept.
        lora: its adapters.
        projector_shape: widths of the projector's input and hidden layer.
        batch: the largest of the run.
        dtype: what the language model computes in.
        checkpointing: whether layers are computed twice instead of kept.

    Raises:
        NoEstimateError: for an architecture whose layers do not run on the `meta` device.
        PipelineError: for a folder that holds no causal language model.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        try:
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            model = AutoModelForCausalLM.from_config(
                config, dtype=dtype, attn_implementation="sdpa", trust_remote_code=False
            )
        except (OSError, ValueError) as error:
            raise PipelineError(
                f"{language_model.name} cannot be used as a causal language model: "
                f"{' '.join(str(error).split())}"
            ) from error
        projector = Projector(*projector_shape, config.hidden_size)
    model.requires_grad_(False)
    linear = {n: m for n, m in model.base_model.named_modules() if isinstance(m, nn.Linear)}
    nf4 = language_model.quantization == "nf4"
    quantized = sum(m.weight.numel() for m in linear.values()) if nf4 else 0
    # Half a byte a weight, and for each block of 64 a scale: 32 bits, or 8 if it is quantized too.
    of_nf4 = quantized * (0.5 + (1 if language_model.double_quantization else 4) / 64)
    # One layer's weights are dequantized at a time.
    dequantized = max((m.weight.numel() for m in linear.values()), default=0) * dtype.itemsize if nf4 else 0
    dense = sum(p.numel() for p in model.parameters()) - quantized
    with torch.device("meta"):
        adapters = adapt(model, language_model.name, lora)
    # An adapted layer keeps its input in float32, with dropout a mask of it too.
    adapters.train(True)
    trained = [*projector.parameters(), *adapters.parameters()]
    return MemoryEstimate(
        weights=of_nf4 + dense * dtype.itemsize + dequantized,
        trained=_BYTES_OF_A_TRAINED_VALUE * sum(p.numel() for p in trained),
        activations=_kept_by_layers(model, batch, checkpointing),
        # Of the labels whose logits exist at a time: the head's output, the same in float32, its
        # log-softmax, and the gradients of the first two.
        logits=min(batch.labels, LABELS_AT_A_TIME) * config.vocab_size * (2 * dtype.itemsize + 3 * 4),
    )


def require_memory(estimate: MemoryEstimate, placement: Placement) -> None:
    """Log the estimate; on CUDA, PipelineError where the device has less than it free."""
    logger.info("estimated peak memory of a step: %s", estimate)
    if placement.device.type != "cuda":
        return
    free, total = torch.cuda.mem_get_info(placement.device)
    # Asking has made CUDA's own part, which `free` is without; its libraries take more when they are used.
    if estimate.total + _CUDA_LIBRARIES > free:
        raise PipelineError(
            f"a training step needs about {estimate}, beside {_CUDA_LIBRARIES / 1e9:.1f} GB of libraries, "
            f"but {free / 1e9:.2f} of the {total / 1e9:.2f} GB of {placement.device} are free; lower "
            "train.batch_size (raise train.gradient_accumulation_steps by the same factor for the same "
            "result), or set train.gradient_checkpointing: true."
        )


def _kept_by_layers(model: Any, batch: LargestBatch, checkpointing: bool) -> float:
    """Bytes that autograd keeps of one forward pass, parameters aside."""
    rows, positions = batch.rows, batch.positions
    with torch.device("meta"):
        embeddings = torch.empty(rows, positions, model.config.hidden_size, dtype=model.dtype)  # [B, T, D_l]
        mask = torch.empty(rows, 1, positions, positions, dtype=torch.bool)  # [B, 1, T, T]
        ids = torch.empty(rows, positions, dtype=torch.long)  # [B, T]
    try:
        # The code of any architecture: what it raises has no type.
        kept = _kept(model.base_model, embeddings, mask, ids)
        layers = len(decoder_layers(model))
    except Exception as error:
        raise NoEstimateError(f"{type(model).__name__}: {' '.join(str(error).split())}") from error
    # With checkpointing: each layer's input, and at a time the inside of one.
    return float(embeddings.nbytes * layers) + kept / layers if checkpointing else kept


def _kept(layers: Any, embeddings: Tensor, mask: Tensor, positions: Tensor) -> float:
    weights = {p.untyped_storage()._cdata for p in layers.parameters()}
    kept: dict[int, tuple[Tensor, int]] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        # The tensor is held, so that its storage's number is not given to another one.
        kept[storage._cdata] = (tensor, storage.nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = layers(
            inputs_embeds=embeddings.requires_grad_(),
            attention_mask=mask,
            position_ids=positions,
            use_cache=False,
        )
        del output
    return float(sum(size for number, (_, size) in kept.items() if number not in weights))
