"""Calculated peak memory of a training step with Llama-3.2-1B, for choosing a batch on an 8 or 16 GB card.

Nothing is measured and no weight is loaded.
"""

import tempfile
from pathlib import Path
from typing import Literal

import click
import torch

from benchmarks.llama_1b import CAPTION, HIDDEN, NUM_TOKENS, PROMPT, WIDTH
from benchmarks.memory_estimate import LargestBatch, estimate_memory
from benchmarks.models import llama_config
from pipeline.params.schema import LanguageModelParams, LoraParams

CAPTIONS_OF_AN_IMAGE = 5
# What CUDA itself and its libraries take of a device.
CUDA_CONTEXT = 600e6
QUANTIZATIONS: tuple[Literal["nf4", "none"], ...] = ("nf4", "none")


@click.command()
def main() -> None:
    """Print the estimate for batches of 2 to 32 images of five captions.

    \b
    Example: python -m benchmarks.memory
    """
    no_lora = LoraParams(rank=0, alpha=16.0, dropout=0.0, targets=())
    labels = CAPTIONS_OF_AN_IMAGE * (len(CAPTION) + 1)
    positions = PROMPT.prefix_length(NUM_TOKENS) + labels
    click.echo("weights  images  checkpointing  GB in all (CUDA's own included)")
    with tempfile.TemporaryDirectory() as folder:
        llama_config().save_pretrained(folder)
        for quantization in QUANTIZATIONS:
            model = LanguageModelParams("Llama-3.2-1B", None, quantization, double_quantization=False)
            for checkpointing in (False, True):
                for images in (2, 4, 8, 16, 32):
                    estimate = estimate_memory(
                        Path(folder),
                        model,
                        no_lora,
                        (WIDTH, HIDDEN),
                        LargestBatch(images, positions, images * labels),
                        torch.bfloat16,
                        checkpointing,
                    )
                    total = (estimate.total + CUDA_CONTEXT) / 1e9
                    click.echo(
                        f"{quantization:<7} {images:>7}  {'yes' if checkpointing else 'no':<13} {total:>6.1f}"
                    )


if __name__ == "__main__":
    main()
