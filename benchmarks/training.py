"""Captions a second in training: this project against what a user would write with `transformers` alone.

The peer: `LlavaForConditionalGeneration`, everything frozen but the projector, Hugging Face `Trainer`,
single captions, images processed in the data loader, right-padded batches. Ours: features encoded once, all
captions of an image in one pass. Both with batches of several sizes, as they trade memory for speed. Same
frozen models (random CLIP ViT-B/32, and SmolLM2-135M or a random Llama-3.2-1B in NF4), same photographs and
captions. Each turn is a process of its own, and the sides take turns.
"""

import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from benchmarks import models, task
from benchmarks.machine import describe, in_a_process
from pipeline.files.json_files import write_json
from pipeline.hardware.device import choose_placement
from pipeline.pretrained.pretrained import resolve_model
from stages.errors import quiet_libraries, report_user_errors

PEER = "peer"
Figures = dict[str, float]


@click.command()
@click.option("--photos", type=click.Path(exists=True, path_type=Path), help="A folder in Flickr8k's layout.")
@click.option("--images", default=96, show_default=True, help="Images that both sides take captions of.")
@click.option("--steps", default=12, show_default=True, help="Measured steps of the peer.")
@click.option("--rounds", default=2, show_default=True, help="Turns of each side.")
@click.option(
    "--peer", "peers", multiple=True, default=["4"], show_default=True, type=int,
    help="Captions of a step of the peer.",
)  # fmt: skip
@click.option(
    "--batch", "batches", multiple=True, default=["2x2", "4", "8", "16"], show_default=True,
    help="Images of a step of ours; 2x2: two, and two more before the optimizer steps.",
)  # fmt: skip
@click.option("--eager", is_flag=True, help="Ours also with layers that are not compiled.")
@click.option("--llama", is_flag=True, help="Llama-3.2-1B's dimensions instead of SmolLM2-135M.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--json", "output", type=click.Path(path_type=Path), default="benchmarks/results/training.json")
@report_user_errors
def main(
    photos: Path | None,
    images: int,
    steps: int,
    rounds: int,
    peers: tuple[int, ...],
    batches: tuple[str, ...],
    eager: bool,
    llama: bool,
    device: str,
    output: Path,
) -> None:
    """Captions a second in training, against LLaVA and Trainer of `transformers`.

    Without --photos both sides train on generated scenes.

    \b
    Example: python -m benchmarks.training --photos ../shared/photos
    Example: python -m benchmarks.training --photos ../shared/photos --device cuda --llama --peer 4 --peer 40
    """
    quiet_libraries()
    ours = {batch: _numbers(batch) for batch in batches}
    placement = choose_placement(device)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        clip = models.save_clip(work / "clip")
        # In processes of their own, which give a GPU's memory back.
        name = str(work / "llama") if llama else models.SMOLLM2
        if llama:
            in_a_process(models.save_llama, work / "llama", placement.device)
        language = resolve_model(name, None, None)
        in_a_process(models.save_llava, work / "llava", clip, language, placement.device)
        task.Setting(name, device).save(work)
        task.save_captions(photos, images, work)
        encoding = _side_in_a_process("ours", work, "encode")["encoding_seconds"]
        sides: dict[str, tuple[str, ...]] = {f"{PEER}, {n}": (PEER, str(n), str(steps)) for n in peers}
        sides |= {f"ours, {batch}": ("ours", *numbers, "compiled") for batch, numbers in ours.items()}
        if eager:
            sides |= {f"ours, eager, {batch}": ("ours", *numbers, "eager") for batch, numbers in ours.items()}
        runs: dict[str, list[Figures]] = {side: [] for side in sides}
        for _ in range(rounds):
            for side, (module, *arguments) in sides.items():
                runs[side].append(_side_in_a_process(module, work, *arguments))
                click.echo(f"{side}: {runs[side][-1]['captions_per_second']:.2f} captions/s", err=True)
        captions = sum(len(of_image) for _, of_image in task.training_pairs(work))
    rows = [_row(side, of_side, encoding / captions) for side, of_side in runs.items()]
    for row in rows:
        row["ratio"] = row["captions_per_second"] / rows[0]["captions_per_second"]
        row["memory_ratio"] = row["peak_memory_mb"] / rows[0]["peak_memory_mb"]
    facts = {"machine": describe(placement), "encoding_seconds": encoding, "images": images}
    write_json(output, {**facts, "runs": runs, "rows": rows})
    _print(rows)


def _numbers(batch: str) -> tuple[str, str]:
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", batch)
    if found is None:
        raise click.UsageError(f"--batch is {batch!r}; expected a number, or two like 2x2.")
    return found[1], found[2] or "1"


def _side_in_a_process(module: str, work: Path, *arguments: str) -> Figures:
    """The figures of one turn of a side, from a process of its own: its peak memory is nobody else's."""
    command = [sys.executable, "-m", f"benchmarks.{module}", str(work), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def _row(side: str, runs: list[Figures], encoding: float) -> dict[str, Any]:
    """The median of each figure over the turns of a side; `encoding`: seconds a caption, spent once."""
    row = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    seconds = 1 / row["captions_per_second"]
    # The peer encodes in each step.
    once = 0.0 if side.startswith(PEER) else encoding
    return {
        "side": side,
        **row,
        "with_encoding_in_1_epoch": 1 / (seconds + once),
        "with_encoding_in_5_epochs": 1 / (seconds + once / 5),
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
    click.echo(f"{'':<18}" + "".join(f"{title:>15}" for title in _COLUMNS))
    for row in rows:
        values = (format(row[key], form) for key, form in _COLUMNS.values())
        click.echo(f"{row['side']:<18}" + "".join(f"{value:>15}" for value in values))


if __name__ == "__main__":
    main()
