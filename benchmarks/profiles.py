"""Peak memory of a training step for each profile of the real run, and the share of its card.

Calculated: no weight is loaded, for the longest image that Flickr8k may have. With a CUDA device also
measured: the same step on random weights of the same shapes, in a process that may take no more than a
profile is allowed to take of its card.
"""

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import click
import torch

from benchmarks.llama_1b import NUM_TOKENS, PROMPT, WIDTH, training_step
from benchmarks.machine import in_a_process, wait_for
from benchmarks.memory import CUDA_CONTEXT
from benchmarks.memory_estimate import estimate_memory, largest_batch
from benchmarks.models import llama_config, save_random_llama
from pipeline.hardware.device import Placement, choose_placement
from pipeline.model.adapters import inject_adapters
from pipeline.model.language_model import load_language_model
from pipeline.model.projector import Projector
from pipeline.model.vision_language_model import VisionLanguageModel
from pipeline.params.loader import load_params
from pipeline.params.schema import Params, TrainParams
from pipeline.training.cost import peak_memory
from stages.errors import quiet_libraries, report_user_errors

# Bytes of each card as it reports itself (a T4: 15 GiB), and the part of them that a profile may take by the
# estimate: what is left is for the desktop, and for what the estimate does not know.
CARDS = {8: 8 * 2**30, 16: 15 * 2**30}
ALLOWED = 0.9
PROFILES = {
    "flickr8k": 8,
    "flickr8k-lora": 8,
    "flickr8k-vit-l14": 8,
    "flickr8k-report": 8,
    "flickr8k-16gb": 16,
}
# Tokens of an image's captions, ends included. The longest of the 1,000 test images has 104 words in its five
# captions, the longest single caption among them 34; these are a quarter more.
LONGEST_IMAGE = (42, 22, 22, 22, 22)
# Patches and width of the encoders.
_ENCODERS = {
    "openai/clip-vit-base-patch32": (NUM_TOKENS, WIDTH),
    "openai/clip-vit-large-patch14": (256, 1024),
}


# The first warms up; of the others the fastest counts.
_STEPS = 6


@dataclass(frozen=True)
class StepMemory:
    """A profile's batch and the bytes that a step of it takes at most, CUDA's own included."""

    profile: str
    card: int
    images: int
    tokens: int
    captions: int
    total: float

    @property
    def share(self) -> float:
        """Of the card's memory."""
        return self.total / CARDS[self.card]


@dataclass(frozen=True)
class Measured:
    """Bytes that a profile's step took, and its time.

    Attributes:
        tensors: the most that tensors took.
        reserved: the most that the allocator took of the card for them; CUDA's own part comes on top.
        seconds: of a step.
    """

    tensors: int
    reserved: int
    seconds: float


@click.command()
@click.option("--device", help="A CUDA device to measure on; without one nothing is measured.")
@report_user_errors
def main(device: str | None) -> None:
    """Print what a training step of each profile takes, and of which card.

    \b
    Example: python -m benchmarks.profiles
    Example: python -m benchmarks.profiles --device cuda
    """
    quiet_libraries()
    folder = Path("profiles")
    rows = [step_memory(name, folder) for name in PROFILES]
    click.echo(table(rows), nl=False)
    if device is None:
        return
    placement = choose_placement(device)
    if placement.device.type != "cuda":
        raise click.UsageError(f"--device is {device}; memory of a card is measured on a CUDA device.")
    click.echo(f"\nMeasured on {placement}:\n")
    click.echo("| profile | GB of tensors | with gaps | allowed, CUDA's own aside | s a step | captions/s |")
    click.echo("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as model:
        in_a_process(save_random_llama, Path(model), placement.device)
        for row in rows:
            done: Measured | None = in_a_process(measure_step, row.profile, folder, Path(model), device)
            cells = _cells(done, _allowed(row.profile), row.captions)
            click.echo(f"| `{row.profile}` | {' | '.join(cells)} |")


def measure_step(profile: str, folder: Path, model: Path, device: str) -> Measured | None:
    """Take some steps of a profile's largest batch with no more memory than it may take of its card.

    Returns None where they do not fit that, or the card that there is.
    """
    placement = choose_placement(device)
    if placement.device.index is not None:
        torch.cuda.set_device(placement.device)
    _, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction(min(1.0, _allowed(profile) / total))
    try:
        return _measure_step(load_params(folder / f"{profile}.yaml"), model, placement)
    except torch.OutOfMemoryError:
        return None


def _measure_step(params: Params, model: Path, placement: Placement) -> Measured:
    tokens, width = _ENCODERS[params.encoder.name]
    language_model = load_language_model(replace(params.language_model, name=str(model)), placement)
    if params.train.gradient_checkpointing:
        language_model.checkpoint_layers()
    adapters = inject_adapters(language_model, params.lora)
    projector = Projector(width, params.projector.hidden_size, language_model.width).to(placement.device)
    trained = VisionLanguageModel(projector, language_model, PROMPT, adapters).train()
    row = [[100] * (length - 1) for length in _lengths(params.train)]
    step = training_step(trained, [row] * params.train.batch_size, tokens, width, placement)
    weights: list[torch.Tensor] = [parameter.detach() for parameter in trained.trainable_parameters()]
    average = [weight.clone() for weight in weights]
    # Loading held weights as they were before they were quantized.
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(_STEPS):
        start = time.perf_counter()
        step()
        torch._foreach_lerp_(average, weights, 0.02)
        wait_for(placement)
        seconds.append(time.perf_counter() - start)
    return Measured(peak_memory(placement), torch.cuda.max_memory_reserved(), min(seconds[1:]))


def _cells(done: Measured | None, allowed: float, captions: int) -> list[str]:
    if done is None:
        return ["does not fit", "", f"{allowed / 1e9:.1f}", "", ""]
    rate = captions / done.seconds
    taken = (f"{size / 1e9:.2f}" for size in (done.tensors, done.reserved))
    return [*taken, f"{allowed / 1e9:.1f}", f"{done.seconds:.3f}", f"{rate:.0f}"]


def _allowed(profile: str) -> float:
    """Bytes that a profile's tensors may take of its card."""
    return ALLOWED * CARDS[PROFILES[profile]] - CUDA_CONTEXT


def _lengths(params: TrainParams) -> tuple[int, ...]:
    """Of the longest image's captions, those that go into one pass."""
    return LONGEST_IMAGE if params.captions_per_pass == "all" else LONGEST_IMAGE[: params.captions_per_pass]


def step_memory(profile: str, folder: Path) -> StepMemory:
    """The estimate for `folder/PROFILE.yaml`, with Llama-3.2-1B's dimensions."""
    params = load_params(folder / f"{profile}.yaml")
    tokens, width = _ENCODERS[params.encoder.name]
    batch = largest_batch([LONGEST_IMAGE], params.train, PROMPT.prefix_length(tokens), processes=1)
    with tempfile.TemporaryDirectory() as model:
        llama_config().save_pretrained(model)
        estimate = estimate_memory(
            Path(model),
            params.language_model,
            params.lora,
            (width, params.projector.hidden_size),
            batch,
            torch.bfloat16,
            params.train.gradient_checkpointing,
        )
    captions = batch.rows * len(_lengths(params.train))
    return StepMemory(profile, PROFILES[profile], batch.rows, tokens, captions, estimate.total + CUDA_CONTEXT)


def table(rows: list[StepMemory]) -> str:
    """The estimates as a table of Markdown."""
    lines = [
        "| profile | images at once | tokens an image | GB at most | of a card of |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| `{row.profile}` | {row.images} | {row.tokens} | {row.total / 1e9:.1f} | "
        f"{row.card} GB, {100 * row.share:.0f} % |"
        for row in rows
    ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
