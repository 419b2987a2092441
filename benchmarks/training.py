"""Captions a second in training: this project against what a user would write with `transformers` alone.

The peer: `LlavaForConditionalGeneration`, everything frozen but the projector, Hugging Face `Trainer`, four
single captions a step, images processed in the data loader, right-padded batches. Ours: features encoded
once, all captions of an image in one pass; batches of several sizes, as they trade memory for speed. Same
frozen models (random CLIP ViT-B/32, SmolLM2-135M in NF4), same photographs and captions. Each turn is a
process of its own, and the sides take turns.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from benchmarks import models, task
from benchmarks.machine import describe
from pipeline.records import write_json

PEER = "peer"
Figures = dict[str, float]


@click.command()
@click.option("--photos", type=click.Path(exists=True, path_type=Path), help="A folder in Flickr8k's layout.")
@click.option("--images", default=96, show_default=True, help="Images that both sides take captions of.")
@click.option("--steps", default=12, show_default=True, help="Measured steps of the peer, 4 captions each.")
@click.option("--rounds", default=2, show_default=True, help="Turns of each side.")
@click.option(
    "--batch", "batches", multiple=True, default=["2x2", "4", "8", "16"], show_default=True,
    help="Images of a step of ours; 2x2: two, and two more before the optimizer steps.",
)  # fmt: skip
@click.option("--json", "output", type=click.Path(path_type=Path), default="benchmarks/results/training.json")
def main(
    photos: Path | None, images: int, steps: int, rounds: int, batches: tuple[str, ...], output: Path
) -> None:
    """Captions a second in training, against LLaVA and Trainer of `transformers`.

    Without --photos both sides train on generated scenes.

    \b
    Example: python -m benchmarks.training --photos ../shared/photos
    """
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        clip = models.save_clip(work / "clip")
        models.save_llava(work / "llava", clip)
        task.save_captions(photos, images, work)
        encoding = _in_a_process("ours", work, "encode")["encoding_seconds"]
        sides = {PEER: (PEER, str(steps)), **{f"ours, {b}": ("ours", *_numbers(b)) for b in batches}}
        runs: dict[str, list[Figures]] = {side: [] for side in sides}
        for _ in range(rounds):
            for side, (module, *arguments) in sides.items():
                runs[side].append(_in_a_process(module, work, *arguments))
                click.echo(f"{side}: {runs[side][-1]['captions_per_second']:.2f} captions/s", err=True)
        captions = sum(len(of_image) for _, of_image in task.training_pairs(work))
    rows = [_row(side, of_side, encoding / captions) for side, of_side in runs.items()]
    for row in rows:
        row["ratio"] = row["captions_per_second"] / rows[0]["captions_per_second"]
        row["memory_ratio"] = row["peak_memory_mb"] / rows[0]["peak_memory_mb"]
    write_json(
        output,
        {"machine": describe(), "encoding_seconds": encoding, "images": images, "runs": runs, "rows": rows},
    )
    _print(rows)


def _numbers(batch: str) -> tuple[str, str]:
    size, _, accumulation = batch.partition("x")
    return size, accumulation or "1"


def _in_a_process(module: str, work: Path, *arguments: str) -> Figures:
    """The figures of one turn, from a process of its own: its peak memory is nobody else's."""
    command = [sys.executable, "-m", f"benchmarks.{module}", str(work), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def _row(side: str, runs: list[Figures], encoding: float) -> dict[str, Any]:
    """The median of each figure over the turns of a side; `encoding`: seconds a caption, spent once."""
    row = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    seconds = 1 / row["captions_per_second"]
    return {
        "side": side,
        **row,
        "with_encoding_in_1_epoch": row["captions_per_second"] if side == PEER else 1 / (seconds + encoding),
        "with_encoding_in_5_epochs": row["captions_per_second"]
        if side == PEER
        else 1 / (seconds + encoding / 5),
    }


_COLUMNS = {
    "captions/s": ("captions_per_second", ".2f"),
    "ratio": ("ratio", ".2f"),
    "peak MB": ("peak_memory_mb", ".0f"),
    "ratio ": ("memory_ratio", ".2f"),
    "GFLOP/caption": ("gflop_per_caption", ".1f"),
    "matmul GFLOP/s": ("matmul_gflops", ".0f"),
    "used": ("utilisation", ".0%"),
    "1 epoch": ("with_encoding_in_1_epoch", ".2f"),
    "5 epochs": ("with_encoding_in_5_epochs", ".2f"),
}


def _print(rows: list[dict[str, Any]]) -> None:
    """One line a side; `1 epoch` and `5 epochs` are captions/s with the time of encoding in them."""
    click.echo(f"{'':<14}" + "".join(f"{title:>15}" for title in _COLUMNS))
    for row in rows:
        values = (format(row[key], form) for key, form in _COLUMNS.values())
        click.echo(f"{row['side']:<14}" + "".join(f"{value:>15}" for value in values))


if __name__ == "__main__":
    main()
