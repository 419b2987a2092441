"""Training steps prepared while the GPU works on the steps before."""

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from pipeline.hardware.execution import Execution
from pipeline.training.batches import Step, StepDataset

# Steps that are ready; one is enough on average, two make up for a slow disk.
AHEAD = 2


def take_steps(steps: StepDataset, execution: Execution) -> Generator[Step]:
    """Yield the steps in order: prepared ahead for a CUDA device, else when they are asked for."""
    device = execution.placement.device
    if device.type == "cuda":
        yield from prefetch_steps(steps, device if execution.runtime.pin_memory else None)
    else:
        # On a CPU a thread would take a core that the model needs.
        yield from (steps[index] for index in range(len(steps)))


def prefetch_steps(steps: StepDataset, pin_device: torch.device | None) -> Generator[Step]:
    """Yield the steps in order, each prepared in a thread while the caller works on the steps before.

    One thread is enough: a batch of 8 images takes it 2 ms, and the training loop waits for the GPU without
    the interpreter's lock. Processes would have to start, import torch and receive the features.

    Args:
        steps: what to prepare.
        pin_device: a CUDA device, for which each step is put into page-locked memory, from which it is copied
            without waiting; None: steps stay where they are.

    Raises:
        Exception: the error of preparing a step, when that step is taken. Closing the generator early waits
            for the step that is being prepared; no further steps are started.
    """

    def prepare(index: int) -> Step:
        step = steps[index]
        return step.pin_memory() if pin_device else step

    def begin() -> None:
        # A new thread uses the first GPU, whichever this process uses.
        if pin_device and pin_device.index is not None:
            torch.cuda.set_device(pin_device)

    thread = ThreadPoolExecutor(1, thread_name_prefix="prefetch", initializer=begin)
    ready: deque[Future[Step]] = deque()
    try:
        for index in range(len(steps)):
            ready.append(thread.submit(prepare, index))
            if len(ready) > AHEAD:
                yield ready.popleft().result()
        while ready:
            yield ready.popleft().result()
    finally:
        thread.shutdown(cancel_futures=True)
