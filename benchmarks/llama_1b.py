"""A training step on a language model of Llama-3.2-1B's exact dimensions, with random weights in NF4.

Time and peak memory of the report's batch (4 single captions) and of ours (all captions of some images), on
the CPU or, where there is one, a CUDA GPU. Speed and memory do not depend on the weights.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.machine import describe, in_a_process, wait_for
from benchmarks.models import save_random_llama
from pipeline.files.json_files import write_json
from pipeline.hardware.device import Placement, choose_placement
from pipeline.hardware.memory import keep_freed_memory
from pipeline.model.language_model import load_language_model
from pipeline.model.packing import pack
from pipeline.model.projector import Projector
from pipeline.model.vision_language_model import VisionLanguageModel
from pipeline.params.schema import LanguageModelParams
from pipeline.text.prompt import Prompt
from pipeline.training.cost import peak_memory
from stages.errors import quiet_libraries, report_user_errors

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
@click.option("--compile", "compiled", is_flag=True, help="Compile the decoder layers.")
@click.option("--json", "output", type=click.Path(path_type=Path), default="benchmarks/results/llama_1b.json")
@report_user_errors
def main(device: str, steps: int, compiled: bool, output: Path) -> None:
    """Time and memory of a training step with Llama-3.2-1B's dimensions.

    \b
    Example: python -m benchmarks.llama_1b
    """
    quiet_libraries()
    placement = choose_placement(device)
    with tempfile.TemporaryDirectory() as folder:
        in_a_process(save_random_llama, Path(folder), placement.device)
        rows = [
            in_a_process(_measure, Path(folder), device, compiled, name, *shape, steps)
            for name, shape in BATCHES.items()
        ]
    write_json(output, {"machine": describe(placement), "compiled": compiled, "rows": rows})
    click.echo(f"{'batch':<30} {'s/step':>8} {'captions/s':>11} {'peak MB':>9}")
    for row in rows:
        click.echo(
            f"{row['batch']:<30} {row['seconds']:>8.3f} {row['captions_per_second']:>11.2f} "
            f"{row['peak_memory_mb']:>9.0f}"
        )


def _measure(
    folder: Path, device: str, compiled: bool, name: str, rows: int, captions: int, steps: int
) -> dict[str, Any]:
    keep_freed_memory()
    placement = choose_placement(device)
    params = LanguageModelParams(str(folder), None, "nf4", double_quantization=False)
    language_model = load_language_model(params, placement)
    if placement.device.type == "cpu":
        # From here on: loading held the weights as they were before they were quantized.
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    if compiled:
        language_model.compile_layers()
    projector = Projector(WIDTH, HIDDEN, language_model.width).to(placement.device)
    model = VisionLanguageModel(projector, language_model, PROMPT)
    step = training_step(model, [[CAPTION] * captions] * rows, NUM_TOKENS, WIDTH, placement)
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


def training_step(
    model: VisionLanguageModel, rows: list[list[list[int]]], num_tokens: int, width: int, placement: Placement
) -> Callable[[], None]:
    """What takes a whole step (forward, back, clipping, AdamW) and returns when the device is done with it.

    Args:
        model: what is trained.
        rows: token ids of each row's captions.
        num_tokens, width: of an image's features, which are random.
        placement: where the model is.
    """
    batch = pack(rows, model.prefix_length(num_tokens), model.prompt.eos).to(placement.device)
    features = torch.randn(len(rows), num_tokens, width, device=placement.device)  # [B, P, D_v]
    parameters = model.trainable_parameters()
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        (model.loss(features, batch) / len(batch.labels)).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        wait_for(placement)

    return step


if __name__ == "__main__":
    main()
