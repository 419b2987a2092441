"""What the next step of a training depends on, apart from weights and optimizer: position, average, curve."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from pipeline.training.cost import Cost

# Tensors by name, and JSON values.
SavedState = tuple[dict[str, Tensor], dict[str, Any]]


@dataclass
class TrainingState:
    """The progress of a training.

    Attributes:
        average: moving average of the trained weights, which checkpoints hold.
        epoch: the epoch under way, from 1.
        step: optimizer steps of this epoch that are done.
        curve: for each step of all epochs: number (from 1), epoch, loss, learning rate, gradient norm.
        cost: what all steps cost, as far as it was measured.
    """

    average: dict[str, Tensor]
    epoch: int = 1
    step: int = 0
    curve: list[list[float]] = field(default_factory=list)
    cost: Cost = field(default_factory=Cost)

    def advance(self, loss: float, rate: float, norm: float) -> None:
        """Record a step that was taken."""
        self.step += 1
        self.curve.append([len(self.curve) + 1, self.epoch, loss, rate, norm])

    @torch.no_grad()
    def update_average(self, weights: Mapping[str, Tensor], decay: float) -> None:
        """Move the average towards the weights; it follows faster in the first steps."""
        decay = min(decay, (1 + len(self.curve)) / (10 + len(self.curve))) if decay else 0.0
        for key, value in weights.items():
            self.average[key].lerp_(value, 1 - decay)

    def finish_epoch(self) -> float:
        """Go to the start of the next epoch; return the mean loss of the finished epoch."""
        losses = [row[2] for row in self.curve if row[1] == self.epoch]
        self.epoch += 1
        self.step = 0
        return sum(losses) / len(losses)

    def saved_state(self) -> SavedState:
        """Return the state as tensors and metadata."""
        averages = {f"average.{name}": value for name, value in self.average.items()}
        tensors = {**averages, "curve": torch.tensor(self.curve, dtype=torch.float64)}
        return tensors, {"epoch": self.epoch, "step": self.step, "cost": asdict(self.cost)}

    @classmethod
    def restore(cls, saved: SavedState, device: torch.device) -> Self:
        """Return the state that `saved_state` described, with its average on `device`."""
        tensors, metadata = saved
        average = {name: value.to(device) for name, value in part(tensors, "average").items()}
        position = metadata["epoch"], metadata["step"]
        return cls(average, *position, tensors["curve"].tolist(), Cost(**metadata["cost"]))


def part(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return the tensors whose names start with `name` and a dot, without this prefix."""
    prefix = f"{name}."
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
