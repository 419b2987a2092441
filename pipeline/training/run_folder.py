"""The scratch folder of one training: its state, the state before that, and a checkpoint for each epoch."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from pipeline.errors import PipelineError, UnreadableError
from pipeline.files.differences import differences
from pipeline.files.disk_errors import explain_write_errors
from pipeline.model.checkpoints import (
    CheckpointInfo,
    checkpoint_path,
    load_checkpoint,
    load_tensors,
    save_checkpoint,
    save_tensors,
    tensor_digest,
)
from pipeline.result_code import library_versions
from pipeline.training.state import SavedState, part

logger = logging.getLogger(__name__)


class RunFolder:
    """Everything that a training needs to continue. Only the main process of a run reads or writes it."""

    def __init__(self, path: Path, published: Path, info: CheckpointInfo, is_main: bool = True) -> None:
        """Nothing is read or written yet.

        Args:
            path: the folder, whose name stands for this training.
            published: the folder in which an earlier run, perhaps of another training, left its checkpoints.
            info: the provenance of this training's checkpoints, of any epoch.
            is_main: whether this process is the main process; the others read and write nothing.
        """
        self.path = path
        self.versions = library_versions("torch", "transformers", "bitsandbytes")
        self._published = published
        self._info = info
        self._is_main = is_main
        self._state = path / "state.safetensors"
        # If the disk damages one of the two, the steps between two saves are lost.
        self._state_before = path / "state_before.safetensors"
        # Whether this run loaded or saved the newest state on the disk.
        self._newest_is_good = False
        # Digests of the checkpoints, epoch after epoch: equal provenance does not give equal tensors on a
        # GPU, or with other versions of the libraries.
        self._checkpoints: list[str] = []

    def save_checkpoint(self, epoch: int, trained: Mapping[str, Tensor]) -> None:
        """Save the checkpoint of an epoch; equal tensors give equal bytes."""
        if self._is_main:
            self._write_checkpoint(epoch, trained)
            self._checkpoints.append(tensor_digest(trained))

    def save_state(self, saved: SavedState) -> None:
        """Write the state, atomically; the state before it stays, and is never replaced by a damaged one."""
        if not self._is_main:
            return
        if self._newest_is_good and self._state.exists():
            with explain_write_errors(self._state):
                self._state.replace(self._state_before)
        tensors, metadata = saved
        run = {"run": self.path.name, "versions": self.versions, "checkpoints": self._checkpoints}
        save_tensors(self._state, tensors, {**metadata, **run})
        self._newest_is_good = True

    def load_state(self, epochs: int) -> SavedState | None:
        """Return the newest state that a training of `epochs` epochs can continue from; None without one.

        A checkpoint that was lost is written again, from the state or from the published outputs. A state is
        passed over with a warning, and its steps are taken again, if it is damaged, belongs to another
        training, has a checkpoint that cannot be written again, or would continue with other versions of the
        libraries. Raises UnreadableError if the system refuses to read a file.
        """
        if not self._is_main:
            return None
        paths = [path for path in (self._state, self._state_before) if path.exists()]
        for path in paths:
            try:
                tensors, metadata = load_tensors(path)
                if metadata.get("run") != self.path.name:
                    raise PipelineError(f"{path} belongs to another training.")
                if metadata["epoch"] <= epochs:
                    for name, installed, saved in differences(self.versions, metadata["versions"]):
                        raise PipelineError(
                            f"{path} was saved with {name} {saved}, but {installed} is installed, and all "
                            "steps of a training need the same version."
                        )
                lost = self._lost_checkpoints((tensors, metadata))
            except UnreadableError:
                raise
            except PipelineError as error:
                logger.warning("%s It is passed over; steps that are lost are taken again.", error)
            else:
                for epoch, trained in lost.items():
                    self._write_checkpoint(epoch, trained)
                    logger.warning("%s was written again", checkpoint_path(self.path, epoch))
                self._newest_is_good = path == self._state
                self._checkpoints = metadata["checkpoints"]
                return tensors, metadata
        if paths:
            logger.warning("New training from step 1: no state in %s can be continued.", self.path)
        return None

    def _write_checkpoint(self, epoch: int, trained: Mapping[str, Tensor]) -> None:
        save_checkpoint(checkpoint_path(self.path, epoch), trained, replace(self._info, epoch=epoch))

    def _lost_checkpoints(self, saved: SavedState) -> dict[int, dict[str, Tensor]]:
        """Return the tensors of epochs whose checkpoint was lost, so that it can be written again."""
        tensors, metadata = saved
        lost = {}
        for epoch, expected in enumerate(metadata["checkpoints"], start=1):
            path = checkpoint_path(self.path, epoch)
            if self._read(path, epoch, expected) is not None:
                continue
            # A state that was saved at the end of an epoch contains the tensors of its checkpoint.
            is_of_state = metadata["step"] == 0 and epoch == metadata["epoch"] - 1
            published = checkpoint_path(self._published, epoch)
            trained = part(tensors, "average") if is_of_state else self._read(published, epoch, expected)
            if trained is None:
                raise PipelineError(f"{path} is damaged or missing, and so is its copy {published}.")
            lost[epoch] = trained
        return lost

    def _read(self, path: Path, epoch: int, expected: str) -> dict[str, Tensor] | None:
        """Return a checkpoint's tensors; None if it is missing, damaged, or not the one that was saved."""
        try:
            checkpoint = load_checkpoint(path)
        except UnreadableError:
            raise
        except PipelineError:
            return None
        tensors = {**checkpoint.projector.state_dict(), **checkpoint.adapters}
        is_saved = checkpoint.info == replace(self._info, epoch=epoch) and tensor_digest(tensors) == expected
        return tensors if is_saved else None
