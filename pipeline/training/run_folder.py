"""The scratch folder of one training: its state, the state before that, and a checkpoint for each epoch."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from pipeline.errors import PipelineError
from pipeline.files.disk_errors import explain_read_errors, explain_write_errors
from pipeline.files.json_files import digest, sha256_of_file
from pipeline.model.checkpoints import (
    CheckpointInfo,
    checkpoint_path,
    load_checkpoint,
    load_tensors,
    save_checkpoint,
    save_tensors,
)
from pipeline.training.state import part

logger = logging.getLogger(__name__)

SavedState = tuple[dict[str, Tensor], dict[str, Any]]


class RunFolder:
    """What a training needs to continue where it was. Only one process of a run writes there."""

    def __init__(self, path: Path, published: Path, info: CheckpointInfo, writes: bool = True) -> None:
        """Nothing is read or written yet.

        Args:
            path: the folder, whose name stands for this training.
            published: where an earlier run, of this training or another, left its checkpoints as outputs.
            info: the facts of its checkpoints, of whichever epoch.
            writes: whether this process writes.
        """
        self.path = path
        self._published = published
        self._info = info
        self._writes = writes
        self._state = path / "state.safetensors"
        # A disk that loses one of the two costs the steps between two saves.
        self._state_before = path / "state_before.safetensors"
        # Whether this run loaded or saved the newest state on the disk.
        self._newest_is_good = False

    def save_checkpoint(self, epoch: int, trained: Mapping[str, Tensor]) -> None:
        """Keep the checkpoint of an epoch; equal tensors give equal bytes."""
        if self._writes:
            info = replace(self._info, epoch=epoch)
            save_checkpoint(checkpoint_path(self.path, epoch), trained, info)

    def save_state(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Write the state, atomically; the one before it is kept, and never gives way to a damaged one."""
        if not self._writes:
            return
        if self._newest_is_good and self._state.exists():
            with explain_write_errors(self._state):
                self._state.replace(self._state_before)
        save_tensors(self._state, tensors, {**facts, "run": self.path.name})
        self._newest_is_good = True

    def load_state(self) -> SavedState | None:
        """The newest state that the training can continue from, all of whose checkpoints are whole.

        A checkpoint that was lost is written again, from the state or from the published outputs. A state
        that is damaged, belongs to another training, or has a checkpoint that cannot be written again is
        passed over with a warning; its steps are taken again. None where no state is left. Raises
        PipelineError where the system refuses to read a file.
        """
        for kept in self.path.glob("*.safetensors"):
            with explain_read_errors(kept):
                sha256_of_file(kept)  # reads all of it
        found = [path for path in (self._state, self._state_before) if path.exists()]
        for path in found:
            try:
                tensors, facts = load_tensors(path)
                if facts.get("run") != self.path.name:
                    raise PipelineError(f"{path} is a state of the training {facts.get('run')}.")
                lost = self._lost_checkpoints(path, tensors, facts)
            except PipelineError as error:
                logger.warning("%s It is passed over; steps that are lost are taken again.", error)
            else:
                for epoch, trained in lost.items():
                    self.save_checkpoint(epoch, trained)
                    logger.warning("%s was written again", checkpoint_path(self.path, epoch))
                self._newest_is_good = path == self._state
                return tensors, facts
        if found:
            logger.warning("no state in %s can be continued: training starts afresh", self.path)
        return None

    def _lost_checkpoints(
        self, state: Path, tensors: dict[str, Tensor], facts: dict[str, Any]
    ) -> dict[int, dict[str, Tensor]]:
        """Tensors of epochs whose checkpoint file was lost, so that the file can be written again."""
        lost = {}
        for epoch in range(1, facts["epoch"]):
            path = checkpoint_path(self.path, epoch)
            if self._read(path, epoch) is not None:
                continue
            # A state that was saved at the end of an epoch holds what that epoch's checkpoint does.
            ended = facts["step"] == 0 and epoch == facts["epoch"] - 1
            published = checkpoint_path(self._published, epoch)
            trained = part(tensors, "average") if ended else self._read(published, epoch)
            if trained is None:
                raise PipelineError(
                    f"{path} is damaged or gone, and {self._published} has no whole copy of it: {state} "
                    "cannot be continued."
                )
            lost[epoch] = trained
        return lost

    def _read(self, path: Path, epoch: int) -> dict[str, Tensor] | None:
        """The tensors of a checkpoint; None where it is gone, damaged, or of another training or epoch."""
        try:
            found = load_checkpoint(path)
        except PipelineError:
            return None
        if digest(asdict(found.info)) != digest(asdict(replace(self._info, epoch=epoch))):
            return None
        return {**found.projector.state_dict(), **found.adapters}
