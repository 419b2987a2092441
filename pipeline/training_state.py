"""What a training run needs to continue where it was: weights, their average, optimizer, position, curve."""

from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from pipeline.caption_model import CaptionModel
from pipeline.checkpoints import load_tensors, save_tensors

_FILE = "state.safetensors"


class TrainingState:
    """Position of a run and everything that its next step depends on.

    Attributes:
        epoch: the epoch under way, from 1.
        step: optimizer steps of this epoch that are done.
        global_step: optimizer steps of all epochs that are done.
        curve: for each step: number (from 1), epoch, loss, learning rate, gradient norm.
        average: moving average of the trained weights, which checkpoints hold.
    """

    def __init__(
        self,
        model: CaptionModel,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._scaler = scaler
        self.epoch = 1
        self.step = 0
        self.global_step = 0
        self.curve: list[list[float]] = []
        self.average = {k: v.detach().clone() for k, v in model.trainable_state().items()}

    @classmethod
    def load_or_start(
        cls,
        scratch: Path,
        model: CaptionModel,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
    ) -> Self:
        """The state saved in `scratch`, loaded into model and optimizer, or a fresh one."""
        state = cls(model, optimizer, scaler)
        path = scratch / _FILE
        if path.exists():
            state._load(path)
        return state

    def advance(self, loss: float, rate: float, norm: float) -> None:
        """Record a step that was taken."""
        self.step += 1
        self.global_step += 1
        self.curve.append([self.global_step, self.epoch, loss, rate, norm])

    @torch.no_grad()
    def update_average(self, decay: float) -> None:
        """Move the average towards the weights; it follows faster in the first steps."""
        decay = min(decay, (1 + self.global_step) / (10 + self.global_step)) if decay else 0.0
        for key, value in self._model.trainable_state().items():
            self.average[key].lerp_(value, 1 - decay)

    def finish_epoch(self) -> float:
        """Go to the start of the next epoch; returns the mean loss of the one that ended."""
        losses = [row[2] for row in self.curve if row[1] == self.epoch]
        self.epoch += 1
        self.step = 0
        return sum(losses) / len(losses)

    def save(self, scratch: Path) -> None:
        """Write the state, atomically."""
        tensors = {f"weights.{k}": v for k, v in self._model.trainable_state().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.items()}
        for index, values in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": v for name, v in values.items()}
        tensors["curve"] = torch.tensor(self.curve, dtype=torch.float64)
        facts: dict[str, Any] = {
            "epoch": self.epoch,
            "step": self.step,
            "global_step": self.global_step,
            "scaler": self._scaler.state_dict(),
        }
        save_tensors(scratch / _FILE, tensors, facts)

    def _load(self, path: Path) -> None:
        tensors, facts = load_tensors(path)
        self.epoch, self.step = facts["epoch"], facts["step"]
        self.global_step = facts["global_step"]
        self.curve = tensors.pop("curve").tolist()
        self._scaler.load_state_dict(facts["scaler"])
        parts: dict[str, dict[str, Tensor]] = {"weights": {}, "average": {}, "optimizer": {}}
        for key, value in tensors.items():
            part, name = key.split(".", 1)
            parts[part][name] = value
        self._model.load_trainable_state(parts["weights"], str(path))
        self.average = {k: v.to(self.average[k].device) for k, v in parts["average"].items()}
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in parts["optimizer"].items():
            index, name = key.split(".", 1)
            moments.setdefault(int(index), {})[name] = value
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": moments, "param_groups": groups})
