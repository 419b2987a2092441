"""Captions a second in training: this project against what a user would write with `transformers` alone.

The peer: `LlavaForConditionalGeneration`, everything frozen but the projector, Hugging Face `Trainer`, one
caption a sequence, images processed in the data loader, right-padded batches. Ours: features encoded once,
all captions of an image in one pass. Same frozen models (random CLIP ViT-B/32, SmolLM2-135M in NF4), same
photographs and captions. Each side runs in processes of its own, by turns.
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

SIDES = ("peer", "ours")


@click.command()
@click.option("--photos", type=click.Path(exists=True, path_type=Path), help="A folder in Flickr8k's layout.")
@click.option("--images", default=96, show_default=True, help="Images that both sides take captions of.")
@click.option("--steps", default=12, show_default=True, help="Measured steps of the peer, 4 captions each.")
@click.option("--rounds", default=2, show_default=True, help="Turns of each side.")
@click.option("--batch-size", default=8, show_default=True, help="Images of a batch of ours.")
@click.option("--json", "output", type=click.Path(path_type=Path), default="benchmarks/results/training.json")
def main(photos: Path | None, images: int, steps: int, rounds: int, batch_size: int, output: Path) -> None:
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
        sizes = {"peer": steps, "ours": batch_size}
        runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
        for _ in range(rounds):
            for side in SIDES:
                runs[side].append(_in_a_process(side, work, sizes[side]))
    summary = _summary(runs)
    write_json(output, {"machine": describe(), "runs": runs, "summary": summary})
    _print(summary)


def _in_a_process(side: str, work: Path, size: int) -> dict[str, Any]:
    """The figures of one turn, from a process of its own: its peak memory is nobody else's."""
    command = [sys.executable, "-m", f"benchmarks.{side}", str(work), str(size)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    click.echo(f"{side}: {figures['captions_per_second']:.2f} captions/s", err=True)
    return figures


def _summary(runs: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, float]]:
    """The median of each figure over the turns of a side."""
    return {
        side: {key: statistics.median(run[key] for run in of_side) for key in of_side[0]}
        for side, of_side in runs.items()
    }


def _print(summary: dict[str, dict[str, float]]) -> None:
    keys = list(dict.fromkeys(key for figures in summary.values() for key in figures))
    click.echo(f"{'':<28}{'peer':>12}{'ours':>12}{'ours/peer':>12}")
    for key in keys:
        values = [summary[side].get(key) for side in SIDES]
        shown = "".join(f"{'' if value is None else format(value, '.2f'):>12}" for value in values)
        ratio = "" if None in values else f"{summary['ours'][key] / summary['peer'][key]:.2f}"
        click.echo(f"{key:<28}{shown}{ratio:>12}")


if __name__ == "__main__":
    main()
