"""Calculated peak memory of a training step for each profile of the real run, and the share of its card.

Nothing is measured and no weight is loaded: these are the estimates that the train stage prints, for the
longest image that Flickr8k may have.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import click
import torch

from benchmarks.llama_1b import NUM_TOKENS, PROMPT, WIDTH, llama_config
from benchmarks.memory import CUDA_CONTEXT
from pipeline.memory import estimate_memory, largest_batch
from pipeline.params_loader import load_params

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


@dataclass(frozen=True)
class StepMemory:
    """A profile's batch and the bytes that a step of it takes at most, CUDA's own included."""

    profile: str
    card: int
    images: int
    tokens: int
    total: float

    @property
    def share(self) -> float:
        """Of the card's memory."""
        return self.total / CARDS[self.card]


@click.command()
def main() -> None:
    """Print what a training step of each profile takes, and of which card.

    \b
    Example: python -m benchmarks.profiles
    """
    click.echo(table([step_memory(name, Path("profiles")) for name in PROFILES]), nl=False)


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
    return StepMemory(profile, PROFILES[profile], batch.rows, tokens, estimate.total + CUDA_CONTEXT)


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
