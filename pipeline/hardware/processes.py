"""The processes of one training run: one, or as many as `torchrun` or `accelerate launch` started.

Each process computes its share of every batch; gradients are summed over all, so that every process takes
the same step, that of the whole batch. Only the main process writes files and logs.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, distributed

from pipeline.hardware.device import Placement

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Processes:
    """This process's place among those of the run."""

    rank: int = 0
    count: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor, in place, by its sum over all processes; they must agree on the shapes."""
        if self.count == 1:
            return
        # One message instead of one for each tensor.
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(flat)
        totals = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, total in zip(tensors, totals, strict=True):
            tensor.copy_(total.view_as(tensor))


ONE_PROCESS = Processes()


@contextmanager
def join_processes(placement: Placement, count: int) -> Iterator[tuple[Processes, Placement]]:
    """Join the `count` processes that a launcher started; each gets a CUDA device of its own.

    Yields this process's place and its placement.
    """
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
