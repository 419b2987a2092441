"""The scratch folder of one training: its state, the state before that, and a checkpoint for each epoch."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from pipeline.errors import PipelineError, UnreadableError
from pipeline.files.differences import differences
from pipeline.files.disk_errors import explain_write_errors
from pipeline.files.json_files import digest
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
from pipeline.training.state import part

logger = logging.getLogger(__name__)

SavedState = tuple[dict[str, Tensor], dict[str, Any]]


class RunFolder:
    """What a training needs to continue where it was. Only the main process of a run reads or writes it."""

    def __init__(self, path: Path, published: Path, info: CheckpointInfo, is_main: bool = True) -> None:
        """Nothing is read or written yet.

        Args:
            path: the folder, whose name stands for this training.
            published: where an earlier run, of this training or another, left its checkpoints as outputs.
            info: the facts of its checkpoints, of whichever epoch.
            is_main: whether this process is the main one; in others nothing is found and nothing is kept.
        """
        self.path = path
        self._published = published
        self._info = info
        self._is_main = is_main
        self._state = path / "state.safetensors"
        # A disk that loses one of the two costs the steps between two saves.
        self._state_before = path / "state_before.safetensors"
        # Whether this run loaded or saved the newest state on the disk.
        self._newest_is_good = False
        # Digests of the checkpoints of this run, epoch after epoch: equal facts do not give equal tensors on
        # a GPU, or with other versions of the libraries.
        self._checkpoints: list[str] = []
        self.versions = library_versions("torch", "transformers", "bitsandbytes")

    def save_checkpoint(self, epoch: int, trained: Mapping[str, Tensor]) -> None:
        """Keep the checkpoint of an epoch; equal tensors give equal bytes."""
        if self._is_main:
            self._write_checkpoint(epoch, trained)
            self._checkpoints.append(tensor_digest(trained))

    def save_state(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Write the state, atomically; the one before it is kept, and never gives way to a damaged one."""
        if not self._is_main:
            return
        if self._newest_is_good and self._state.exists():
            with explain_write_errors(self._state):
                self._state.replace(self._state_before)
        kept = {"run": self.path.name, "versions": self.versions, "checkpoints": self._checkpoints}
        save_tensors(self._state, tensors, {**facts, **kept})
        self._newest_is_good = True

    def load_state(self, epochs: int) -> SavedState | None:
        """Return the newest state that a training of `epochs` epochs can continue from, with its facts.

        A checkpoint that was lost is written again, from the state or from the published outputs. A state
        that is damaged, belongs to another training, has a checkpoint that cannot be written again, or would
        be continued with other versions of the libraries is passed over with a warning; its steps are taken
        again. None where no state is left. Raises UnreadableError where the system refuses to read a file.
        """
        if not self._is_main:
            return None
        found = [path for path in (self._state, self._state_before) if path.exists()]
        for path in found:
            try:
                tensors, facts = load_tensors(path)
                if facts.get("run") != self.path.name:
                    raise PipelineError(f"{path} is a state of the training {facts.get('run')}.")
                if facts["epoch"] <= epochs:
                    self._require_same_versions(path, facts["versions"])
                lost = self._lost_checkpoints(path, tensors, facts)
            except UnreadableError:
                raise
            except PipelineError as error:
                logger.warning("%s It is passed over; steps that are lost are taken again.", error)
            else:
                for epoch, trained in lost.items():
                    self._write_checkpoint(epoch, trained)
                    logger.warning("%s was written again", checkpoint_path(self.path, epoch))
                self._newest_is_good = path == self._state
                self._checkpoints = facts["checkpoints"]
                return tensors, facts
        if found:
            logger.warning("New training from step 1: no state in %s can be continued.", self.path)
        return None

    def _write_checkpoint(self, epoch: int, trained: Mapping[str, Tensor]) -> None:
        save_checkpoint(checkpoint_path(self.path, epoch), trained, replace(self._info, epoch=epoch))

    def _require_same_versions(self, state: Path, versions: Mapping[str, str]) -> None:
        for name, installed, saved in differences(self.versions, versions):
            raise PipelineError(
                f"{state} was saved with {name} {saved}, and {installed} is installed: the steps of one "
                "training are all taken with the same version."
            )

    def _lost_checkpoints(
        self, state: Path, tensors: dict[str, Tensor], facts: dict[str, Any]
    ) -> dict[int, dict[str, Tensor]]:
        """Tensors of epochs whose checkpoint file was lost, so that the file can be written again."""
        lost = {}
        for epoch, expected in enumerate(facts["checkpoints"], start=1):
            path = checkpoint_path(self.path, epoch)
            if self._read(path, epoch, expected) is not None:
                continue
            # A state that was saved at the end of an epoch holds what that epoch's checkpoint does.
            ended = facts["step"] == 0 and epoch == facts["epoch"] - 1
            published = checkpoint_path(self._published, epoch)
            trained = part(tensors, "average") if ended else self._read(published, epoch, expected)
            if trained is None:
                raise PipelineError(
                    f"{path} is damaged or gone, and {self._published} has no whole copy of it: {state} "
                    "cannot be continued."
                )
            lost[epoch] = trained
        return lost

    def _read(self, path: Path, epoch: int, expected: str) -> dict[str, Tensor] | None:
        """The tensors of a checkpoint; None where it is gone, damaged, or not the one that was saved."""
        try:
            found = load_checkpoint(path)
        except UnreadableError:
            raise
        except PipelineError:
            return None
        if digest(asdict(found.info)) != digest(asdict(replace(self._info, epoch=epoch))):
            return None
        tensors = {**found.projector.state_dict(), **found.adapters}
        return tensors if tensor_digest(tensors) == expected else None
