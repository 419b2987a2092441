"""A training step on a language model of Llama-3.2-1B's exact dimensions, with random weights in NF4.

Time and peak memory of the report's batch (4 single captions) and of ours (all captions of some images), on
the CPU or, where there is one, a CUDA GPU. Speed and memory do not depend on the weights.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.machine import describe
from pipeline.allocator import keep_freed_memory
from pipeline.caption_model import CaptionModel
from pipeline.device import Placement, choose_placement
from pipeline.language_model import LanguageModel, load_language_model
from pipeline.packing import pack
from pipeline.params import LanguageModelParams
from pipeline.projector import Projector
from pipeline.prompt import Prompt
from pipeline.records import write_json
from pipeline.training_cost import peak_memory

# CLIP ViT-B/32's patches and width; a prompt and captions as long as Flickr8k's in Llama's tokens.
NUM_TOKENS, WIDTH, HIDDEN = 49, 768, 2048
PROMPT = Prompt(before=tuple(range(1, 5)), after=tuple(range(5, 14)), eos=0)
CAPTION = list(range(100, 113))
# Rows of a batch, captions of a row.
BATCHES = {
    "the report's: 4 captions": (4, 1),
    "ours: 4 images, 20 captions": (4, 5),
    "ours: 8 images, 40 captions": (8, 5),
}


@click.command()
@click.option("--device", default="auto", show_default=True)
@click.option("--steps", default=2, show_default=True)
@click.option("--json", "output", type=click.Path(path_type=Path), default="benchmarks/results/llama_1b.json")
def main(device: str, steps: int, output: Path) -> None:
    """Time and memory of a training step with Llama-3.2-1B's dimensions.

    \b
    Example: python -m benchmarks.llama_1b
    """
    keep_freed_memory()
    placement = choose_placement(device)
    with tempfile.TemporaryDirectory() as folder:
        language_model = _random_llama(Path(folder), placement)
    rows = [_measure(name, *shape, language_model, placement, steps) for name, shape in BATCHES.items()]
    write_json(output, {"machine": describe(), "device": str(placement), "rows": rows})
    click.echo(f"{'batch':<30} {'s/step':>8} {'captions/s':>11} {'peak MB so far':>15}")
    for row in rows:
        click.echo(
            f"{row['batch']:<30} {row['seconds']:>8.2f} {row['captions_per_second']:>11.2f} "
            f"{row['peak_memory_mb']:>15.0f}"
        )


def llama_config() -> Any:
    """Llama-3.2-1B's dimensions."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=128_256,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=64,
        tie_word_embeddings=True,
    )


def _random_llama(folder: Path, placement: Placement) -> LanguageModel:
    from transformers import LlamaForCausalLM

    torch.manual_seed(0)
    LlamaForCausalLM(llama_config()).to(torch.bfloat16).save_pretrained(folder)
    return load_language_model(LanguageModelParams(str(folder), None, "nf4", False), placement)


def _measure(
    name: str, rows: int, captions: int, language_model: LanguageModel, placement: Placement, steps: int
) -> dict[str, Any]:
    projector = Projector(WIDTH, HIDDEN, language_model.width).to(placement.device)
    model = CaptionModel(projector, language_model, PROMPT)
    batch = pack([[CAPTION] * captions] * rows, PROMPT.prefix_length(NUM_TOKENS), PROMPT.eos).to(
        placement.device
    )
    features = torch.randn(rows, NUM_TOKENS, WIDTH, device=placement.device)  # [B, P, D_v]

    def step() -> None:
        (model.loss(features, batch) / len(batch.labels)).backward()  # type: ignore[no-untyped-call]
        if placement.device.type == "cuda":
            torch.cuda.synchronize()

    step()  # warms up
    start = time.perf_counter()
    for _ in range(steps):
        step()
    seconds = (time.perf_counter() - start) / steps
    return {
        "batch": name,
        "seconds": seconds,
        "captions_per_second": rows * captions / seconds,
        "peak_memory_mb": peak_memory(placement) / 1e6,
    }


if __name__ == "__main__":
    main()
