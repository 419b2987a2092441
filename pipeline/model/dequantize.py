"""NF4 weights as plain ones while training: a third of a step's passes over weights, for more memory.

Every layer takes its weights apart twice a batch, forward and backward. Where memory allows, that is done
once. The values are those of NF4, so the results are too, on a CPU bit for bit.
"""

import logging
from typing import Literal

from pipeline.hardware.device import Placement
from pipeline.hardware.memory import free_memory
from pipeline.model.language_model import LanguageModel

logger = logging.getLogger(__name__)

# The part of the free memory that plain weights may take in addition: the rest is the batch's.
_SHARE = 1 / 8
# Bytes of a weight in NF4: half of one, and for each block of 64 a scale of 32 bits.
_NF4_BYTES = 0.5 + 4 / 64


def should_dequantize(
    requested: Literal["auto", "always", "never"], model: LanguageModel, placement: Placement
) -> bool:
    """Resolve `runtime.dequantize` for a model in NF4 whose weights are loaded, and log the choice."""
    if model.spec["quantization"] != "nf4":
        return False
    extra = model.layer_weights * (placement.dtype.itemsize - _NF4_BYTES)
    if requested != "auto":
        chosen, reason = requested == "always", f"runtime.dequantize is {requested}"
    else:
        chosen = extra <= _SHARE * free_memory(placement.device)
        reason = "memory is free" if chosen else "the memory is left to the batch"
    words = "dequantized once" if chosen else "dequantized in each step"
    logger.info("NF4 weights: %s, %.0f MB more (%s)", words, chosen * extra / 1e6, reason)
    return chosen


def dequantize_layers(model: LanguageModel) -> None:
    """Replace every NF4 layer by a plain one with its values, in place; before adapters are added."""
    model.model.dequantize()
    model.model.requires_grad_(False)
