"""The checkpoints of a training in its scratch folder, and where one that was lost can be had from."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from pipeline.errors import PipelineError
from pipeline.files.json_files import digest
from pipeline.model.checkpoints import (
    CheckpointInfo,
    checkpoint_path,
    load_checkpoint,
    load_tensors,
    save_checkpoint,
)


@dataclass(frozen=True)
class KeptCheckpoints:
    """The checkpoints of one training.

    Attributes:
        folder: the scratch folder of the training.
        published: where an earlier run, of this training or another, left its checkpoints as outputs.
        info: the facts of the checkpoint of an epoch (from 1).
    """

    folder: Path
    published: Path
    info: Callable[[int], CheckpointInfo]

    def path(self, epoch: int) -> Path:
        """Where the checkpoint of an epoch is kept."""
        return checkpoint_path(self.folder, epoch)

    def save(self, epoch: int, trained: Mapping[str, Tensor]) -> None:
        """Keep the checkpoint of an epoch; equal tensors give equal bytes."""
        save_checkpoint(self.path(epoch), trained, self.info(epoch))

    def is_whole(self, epoch: int) -> bool:
        """Whether the checkpoint of an epoch is kept, undamaged, and of this training."""
        return self._is_ours(self.path(epoch), epoch)

    def published_copy(self, epoch: int) -> dict[str, Tensor] | None:
        """The tensors of an epoch among the outputs; None where there is no whole one of this training."""
        path = checkpoint_path(self.published, epoch)
        return load_tensors(path)[0] if self._is_ours(path, epoch) else None

    def _is_ours(self, path: Path, epoch: int) -> bool:
        try:
            found = load_checkpoint(path).info
        except PipelineError:
            return False
        return digest(asdict(found)) == digest(asdict(self.info(epoch)))
