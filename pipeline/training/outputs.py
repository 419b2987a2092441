"""What a training run leaves as its stage's outputs: checkpoints, the curve of its steps, metrics."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.files.atomic import replace_folder
from pipeline.files.json_files import write_atomic, write_json
from pipeline.model.checkpoints import checkpoint_path

# A step: number (from 1), epoch, loss, learning rate, gradient norm.
Curve = Sequence[Sequence[float]]


@dataclass(frozen=True)
class TrainPaths:
    """Where training reads and writes."""

    features: Path
    tokens: Path
    checkpoints: Path
    metrics: Path
    cost: Path
    curve: Path


@dataclass(frozen=True)
class TrainSummary:
    """What a train run did; `loss` is the mean of the last epoch's steps."""

    epochs: int
    trained_steps: int
    steps: int
    loss: float


def publish(
    paths: TrainPaths, scratch: Path, curve: Curve, epochs: int, trained_steps: int, counts: dict[str, int]
) -> TrainSummary:
    """Leave exactly the checkpoints and curve of epochs 1 to `epochs` as the stage's outputs.

    Args:
        paths: where they belong.
        scratch: where the run has its checkpoints, of these epochs or more.
        curve: its steps, of these epochs or more.
        epochs: how many epochs were asked for.
        trained_steps: how many steps were taken now.
        counts: what else the metrics say.
    """
    rows = [row for row in curve if row[1] <= epochs]
    summary = summarize(curve, epochs, trained_steps)
    _copy_checkpoints(scratch, paths.checkpoints, epochs)
    _write_curve(paths.curve, rows)
    write_json(
        paths.metrics,
        {"epochs": epochs, "steps": summary.steps, "loss": round(summary.loss, 6), **counts},
    )
    return summary


def summarize(curve: Curve, epochs: int, trained_steps: int) -> TrainSummary:
    """What a run of `epochs` epochs did, `trained_steps` steps of it now."""
    losses = [row[2] for row in curve if row[1] == epochs]
    steps = sum(1 for row in curve if row[1] <= epochs)
    return TrainSummary(epochs, trained_steps, steps, sum(losses) / len(losses))


def _copy_checkpoints(scratch: Path, folder: Path, epochs: int) -> None:
    with replace_folder(folder) as fresh:
        for epoch in range(1, epochs + 1):
            shutil.copyfile(checkpoint_path(scratch, epoch), checkpoint_path(fresh, epoch))


def _write_curve(path: Path, rows: Curve) -> None:
    lines = ["step,epoch,loss,learning_rate,gradient_norm"]
    for step, epoch, loss, rate, norm in rows:
        lines.append(f"{int(step)},{int(epoch)},{loss:.6f},{rate:.6g},{norm:.6f}")
    write_atomic(path, ("\n".join(lines) + "\n").encode())
