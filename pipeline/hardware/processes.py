"""The processes of one training run: one, or as many as `torchrun` or `accelerate launch` started.

Each process computes its share of every batch. Gradients are summed, so that every process takes the step of
the whole batch. Only the main process reads and writes the run's state, and logs.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, distributed

from pipeline.errors import PipelineError, shorten
from pipeline.files.differences import differences
from pipeline.files.json_files import JsonObject, canonical_json
from pipeline.hardware.device import Placement

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Processes:
    """This process's place among those of the run."""

    rank: int = 0
    count: int = 1

    @property
    def is_main(self) -> bool:
        """Check that this is the process that writes."""
        return self.rank == 0

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor, in place, by its sum over all processes; they must agree on the shapes."""
        if self.count == 1:
            return
        # One message instead of one for each tensor.
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with _explain_lost_processes():
            distributed.all_reduce(flat)
        totals = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, total in zip(tensors, totals, strict=True):
            tensor.copy_(total.view_as(tensor))

    def broadcast(self, content: bytes, sender: int = 0) -> bytes:
        """Return the content of the process `sender`; that of the others is ignored."""
        if self.count == 1:
            return content
        # NCCL only sends tensors on a GPU.
        device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
        length = torch.tensor(len(content), device=device)
        with _explain_lost_processes():
            distributed.broadcast(length, sender)
            message = torch.zeros(int(length), dtype=torch.uint8, device=device)
            if self.rank == sender:
                message = torch.frombuffer(bytearray(content), dtype=torch.uint8).to(device)
            distributed.broadcast(message, sender)
        return message.cpu().numpy().tobytes()

    def require_same(self, inputs: JsonObject) -> None:
        """Raise PipelineError, in every process, unless the inputs of all processes are equal."""
        content = canonical_json(inputs).encode()
        main, *others = (json.loads(self.broadcast(content, sender)) for sender in range(self.count))
        for rank, other in enumerate(others, start=1):
            for name, value, expected in differences(other, main):
                raise PipelineError(
                    f"The processes of this training differ: {name} is {shorten(value)} in process {rank}, "
                    f"and {shorten(expected)} in process 0. Fix: copy code, libraries, models, params.yaml, "
                    "data/features.h5 and data/tokens.h5 of process 0 to the other machines, and start all "
                    "processes again."
                )


ONE_PROCESS = Processes()


@contextmanager
def _explain_lost_processes() -> Iterator[None]:
    """Turn the error of a lost connection into a PipelineError."""
    try:
        yield
    except RuntimeError as error:
        raise PipelineError(
            "Another process of this training has stopped or cannot be reached. Fix: mend what its message "
            "says, and start all processes again."
        ) from error


@contextmanager
def join_processes(placement: Placement, count: int) -> Iterator[tuple[Processes, Placement]]:
    """Join the `count` processes that a launcher started; yield this process's place and its CUDA device."""
    if count == 1:
        yield ONE_PROCESS, placement
        return
    from accelerate import PartialState

    state = PartialState(cpu=placement.device.type != "cuda")
    if placement.device.type == "cuda":
        placement = replace(placement, device=state.device)
    logger.info("%d processes share each batch", state.num_processes)
    try:
        yield Processes(state.process_index, state.num_processes), placement
    finally:
        state.destroy_process_group()
