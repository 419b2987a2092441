"""What each choice of the recipe gives: experiments that differ from it in one value, on one dataset.

The recipe is params.yaml as shipped, the sample's models, with the values of RECIPE. Dev compares; its loss,
which every token of its captions goes into, tells choices apart that its scores cannot. What was measured is
kept, and an experiment that is there is not run again.
"""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from benchmarks.common import table
from pipeline.files.json_files import read_json, write_atomic

PARAMS = Path("params.yaml")
METRICS = Path("metrics/evaluate.json")

RECIPE = "train.learning_rate=4e-3 train.ema_decay=0.98 generate.max_new_tokens=40"
# What is compared after one epoch of training; the first is the recipe itself.
TRAINING = (
    "",
    "train.seed=1",
    "train.learning_rate=1e-3",
    "train.learning_rate=2e-3",
    "train.learning_rate=8e-3",
    "train.learning_rate=2e-3 train.ema_decay=0",
    "train.batch_size=2",
    "train.batch_size=8",
    "train.batch_size=8 train.learning_rate=8e-3",
    "train.weight_decay=0.1",
    "train.warmup_steps=0",
    "train.warmup_steps=100",
    "train.captions_per_sequence=1 train.batch_size=20",
    "projector.dropout=0.1",
    "projector.standardize=false",
    "projector.standardize=false projector.match_embedding_norm=false",
    "encoder.tokens=mean",
    "encoder.grid=2",
    "encoder.grid=null",
    "prompt.lowercase=false",
    "lora.rank=8",
    "language_model.quantization=none",
)
# What is compared after three epochs. Those that differ in `generate` alone share their training.
DECODING = (
    "",
    "generate.no_repeat_ngram_size=3",
    "generate.beams=3",
    "generate.beams=3 generate.no_repeat_ngram_size=3",
    "generate.beams=3 generate.no_repeat_ngram_size=3 generate.length_penalty=0",
    "generate.beams=3 generate.no_repeat_ngram_size=3 generate.length_penalty=0.5",
    "generate.beams=5 generate.no_repeat_ngram_size=3",
    "train.schedule=cosine",
    "train.seed=1 generate.no_repeat_ngram_size=3",
    "train.learning_rate=2e-3 generate.no_repeat_ngram_size=3",
    "encoder.grid=null generate.no_repeat_ngram_size=3",
    "lora.rank=8 generate.no_repeat_ngram_size=3",
)


@click.command()
@click.option(
    "--photos", required=True, type=click.Path(exists=True, path_type=Path), help="In Flickr8k's layout."
)
@click.option("--only", default="", help="Rows whose name holds this text.")
@click.option("--results", type=click.Path(path_type=Path), default="benchmarks/results/choices")
def main(photos: Path, only: str, results: Path) -> None:
    """Run the experiments that are not in RESULTS yet, each as `dvc exp run`, and print their tables.

    Run it in the project's folder; params.yaml is put back as it was. All rows take some hours on two cores.

    \b
    Example: python -m benchmarks.choices --photos /path/to/photos
    """
    data = {"data.source": "flickr8k", "data.root": str(photos.resolve())}
    for epochs, choices in ((1, TRAINING), (3, DECODING)):
        rows = []
        for choice in choices:
            name = choice or "the recipe"
            file = results / f"{epochs}-{re.sub(r'[^0-9a-z]+', '-', name)}.json"
            if only in name and not file.exists():
                words = f"{RECIPE} train.epochs={epochs} {choice}".split()
                # Of equal keys the last one counts.
                _run(data | dict(word.split("=") for word in words), file)
            if file.exists():
                rows.append(_row(f"`{name}`", read_json(file)))
        if rows:
            click.echo(f"after {epochs} epoch{'s' if epochs > 1 else ''}:\n\n{table(rows)}")


def _run(settings: Mapping[str, str], file: Path) -> None:
    before = PARAMS.read_bytes()
    changes = [argument for setting in settings.items() for argument in ("-S", "=".join(setting))]
    click.echo(" ".join(["dvc exp run", *changes, "evaluate"]), err=True)
    try:
        subprocess.run(["dvc", "exp", "run", *changes, "evaluate"], stdout=subprocess.DEVNULL, check=True)
        write_atomic(file, METRICS.read_bytes())
    finally:
        PARAMS.write_bytes(before)


def _row(name: str, metrics: Mapping[str, Any]) -> dict[str, str]:
    """Scores; in brackets the 95 % interval over images."""
    best = metrics["by_epoch"][str(metrics["best_epoch"])]
    return {
        "choice": name,
        "dev loss": f"{best['dev_loss']:.3f}",
        "dev CIDEr-D": _score(metrics, "dev", "cider", ".1f", ".0f"),
        "test BLEU-4": _score(metrics, "test", "bleu_4", ".2f", ".1f"),
        "test CIDEr-D": _score(metrics, "test", "cider", ".1f", ".0f"),
        "cut off": f"{metrics['cut_off']:.1f} %",
    }


def _score(metrics: Mapping[str, Any], split: str, name: str, form: str, ends: str) -> str:
    interval = metrics["intervals"][split][name]
    return f"{metrics[split][name]:{form}} ({interval['low']:{ends}} to {interval['high']:{ends}})"


if __name__ == "__main__":
    main()
