"""What a training run needs to continue where it was: weights, their average, optimizer, position, curve."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from pipeline.errors import PipelineError
from pipeline.files.disk_errors import require_readable, writing
from pipeline.model.checkpoints import load_tensors, save_tensors
from pipeline.model.vision_language_model import VisionLanguageModel
from pipeline.training.cost import Cost
from pipeline.training.kept_checkpoints import KeptCheckpoints

logger = logging.getLogger(__name__)

_FILE = "state.safetensors"
# The state before it: a disk that loses one of them costs the steps between two saves.
_BEFORE = "state_before.safetensors"


class TrainingState:
    """Position of a run and everything that its next step depends on.

    Attributes:
        epoch: the epoch under way, from 1.
        step: optimizer steps of this epoch that are done.
        global_step: optimizer steps of all epochs that are done.
        curve: for each step: number (from 1), epoch, loss, learning rate, gradient norm.
        average: moving average of the trained weights, which checkpoints hold.
        cost: what all steps cost, as far as it was measured.
        lost: of epochs whose checkpoints are not kept any more, the tensors to make them anew with.
    """

    def __init__(
        self,
        model: VisionLanguageModel,
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
        self.cost = Cost()
        self.lost: dict[int, dict[str, Tensor]] = {}
        # Whether the newest state on the disk is one that this run loaded or saved.
        self._newest_is_good = False

    @classmethod
    def load_or_start(
        cls,
        checkpoints: KeptCheckpoints,
        model: VisionLanguageModel,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
    ) -> Self:
        """The state saved beside `checkpoints`, loaded into model and optimizer, or a fresh one.

        A state that is damaged, is another run's, or of whose checkpoints one is lost and cannot be made
        anew, is passed over with a warning: the steps that it stood for are taken again. Raises PipelineError
        where the system refuses to read one.
        """
        scratch = checkpoints.folder
        state = cls(model, optimizer, scaler)
        for kept in scratch.glob("*.safetensors"):
            require_readable(kept)
        found = [path for path in (scratch / _FILE, scratch / _BEFORE) if path.exists()]
        for path in found:
            try:
                state._load(path, checkpoints)
            except PipelineError as error:
                logger.warning("%s It is passed over; steps that are lost are taken again.", error)
            else:
                state._newest_is_good = path.name == _FILE
                return state
        if found:
            logger.warning("no state in %s can be continued: training starts afresh", scratch)
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
        """Write the state, atomically; the one before it is kept, and never gives way to a damaged one."""
        tensors = {f"weights.{k}": v for k, v in self._model.trainable_state().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.items()}
        for index, values in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": v for name, v in values.items()}
        tensors["curve"] = torch.tensor(self.curve, dtype=torch.float64)
        facts: dict[str, Any] = {
            "run": scratch.name,
            "epoch": self.epoch,
            "step": self.step,
            "global_step": self.global_step,
            "scaler": self._scaler.state_dict(),
            "cost": asdict(self.cost),
        }
        path = scratch / _FILE
        if self._newest_is_good and path.exists():
            with writing(path):
                path.replace(scratch / _BEFORE)
        save_tensors(path, tensors, facts)
        self._newest_is_good = True

    def _load(self, path: Path, checkpoints: KeptCheckpoints) -> None:
        tensors, facts = load_tensors(path)
        if facts.get("run") != path.parent.name:
            raise PipelineError(
                f"{path} is the state of the training run {facts.get('run')}, not of {path.parent.name}."
            )
        curve = tensors.pop("curve").tolist()
        parts: dict[str, dict[str, Tensor]] = {"weights": {}, "average": {}, "optimizer": {}}
        for key, value in tensors.items():
            part, name = key.split(".", 1)
            parts[part][name] = value
        ended = facts["epoch"] - 1 if facts["step"] == 0 else None
        self.lost = {}
        for epoch in range(1, facts["epoch"]):
            if checkpoints.is_whole(epoch):
                continue
            # What a state holds that was saved at the end of an epoch is that epoch's checkpoint.
            made = parts["average"] if epoch == ended else checkpoints.published_copy(epoch)
            if made is None:
                raise PipelineError(
                    f"{checkpoints.path(epoch)} is damaged or gone, and {checkpoints.published} has no whole "
                    f"copy of it: {path} cannot be continued."
                )
            self.lost[epoch] = made
        self.curve = curve
        self.epoch, self.step = facts["epoch"], facts["step"]
        self.global_step = facts["global_step"]
        self.cost = Cost(**facts["cost"])
        self._scaler.load_state_dict(facts["scaler"])
        self._model.load_trainable_state(parts["weights"], str(path))
        self.average = {k: v.to(self.average[k].device) for k, v in parts["average"].items()}
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in parts["optimizer"].items():
            index, name = key.split(".", 1)
            moments.setdefault(int(index), {})[name] = value
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": moments, "param_groups": groups})
