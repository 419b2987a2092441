"""The outputs of a training run: checkpoints, the curve of its steps, metrics."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.files.atomic import replace_folder
from pipeline.files.json_files import write_atomic, write_json
from pipeline.hardware.tracking import Track
from pipeline.model.checkpoints import checkpoint_path

# A step: number (from 1), epoch, loss, learning rate, gradient norm.
Curve = Sequence[Sequence[float]]


@dataclass(frozen=True)
class TrainPaths:
    """Where training reads and writes."""

    features: Path = Path("data/features.h5")
    tokens: Path = Path("data/tokens.h5")
    neighbors: Path = Path("data/neighbors.h5")
    checkpoints: Path = Path("data/checkpoints")
    metrics: Path = Path("metrics/train.json")
    cost: Path = Path("metrics/cost.json")
    curve: Path = Path("plots/training.csv")


@dataclass(frozen=True)
class TrainSummary:
    """What a train run did; `loss` is the mean of the last epoch's steps."""

    epochs: int
    trained_steps: int
    steps: int
    loss: float


def summarize(curve: Curve, epochs: int, trained_steps: int) -> TrainSummary:
    """Summarize a run of `epochs` epochs, of whose steps `trained_steps` were taken now."""
    losses = [row[2] for row in curve if row[1] == epochs]
    return TrainSummary(epochs, trained_steps, len(curve), sum(losses) / len(losses))


class LiveCurve:
    """Shows the curve of a run to readers of its file and to trackers while it grows."""

    def __init__(self, path: Path, track: Track) -> None:
        self._path = path
        self._track = track
        self._tracked = 0

    def show(self, curve: Curve) -> None:
        """Write the curve so far, and track its new steps; a run that continues tracks all of them again."""
        lines = ["step,epoch,loss,learning_rate,gradient_norm"]
        for step, epoch, loss, rate, norm in curve:
            lines.append(f"{int(step)},{int(epoch)},{loss:.6f},{rate:.6g},{norm:.6f}")
        write_atomic(self._path, ("\n".join(lines) + "\n").encode())
        for step, _, loss, rate, norm in curve[self._tracked :]:
            values = {"train/loss": loss, "train/learning_rate": rate, "train/gradient_norm": norm}
            self._track(values, int(step))
        self._tracked = len(curve)


def publish(paths: TrainPaths, run_folder: Path, summary: TrainSummary, counts: Mapping[str, int]) -> None:
    """Write the checkpoints and the metrics of epochs 1 to `summary.epochs`.

    Args:
        paths: where the outputs belong.
        run_folder: the folder of the run's checkpoints, of these epochs or more.
        summary: what the run did.
        counts: further entries of the metrics.
    """
    epochs = summary.epochs
    with replace_folder(paths.checkpoints) as fresh:
        for number in range(1, epochs + 1):
            shutil.copyfile(checkpoint_path(run_folder, number), checkpoint_path(fresh, number))
    metrics = {"epochs": epochs, "steps": summary.steps, "loss": round(summary.loss, 6)}
    write_json(paths.metrics, {**metrics, **counts})
