"""Training steps prepared while the GPU works on the steps before."""

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from pipeline.hardware.execution import Execution
from pipeline.training.batches import Step, StepDataset

# Steps that lie ready; one would do, two even out a slow disk.
AHEAD = 2


def take_steps(steps: StepDataset, execution: Execution) -> Generator[Step]:
    """Yield the steps in order: for a CUDA device prepared ahead, else when they are asked for."""
    device = execution.placement.device
    if device.type == "cuda":
        yield from prefetched(steps, device if execution.runtime.pin_memory else None)
    else:
        # On a CPU a thread would take a core that the model needs.
        yield from (steps[index] for index in range(len(steps)))


def prefetched(steps: StepDataset, pinned_for: torch.device | None) -> Generator[Step]:
    """Yield the steps in order, each prepared in a thread while the caller works on the steps before.

    One thread is enough: a batch of 8 images takes it 2 ms, and the training loop waits for the GPU without
    the interpreter's lock. Processes would each have to start, import torch, and be handed the features.

    Args:
        steps: what to prepare.
        pinned_for: a CUDA device, to put each step into page-locked memory, from which copies to it need not
            be waited for; None: left as they are.

    Raises:
        Exception: what goes wrong in preparing a step, where that step is taken. Closing the generator early
            waits for the step that is being prepared; no further steps are started.
    """

    def prepare(index: int) -> Step:
        step = steps[index]
        return step.pin_memory() if pinned_for else step

    def begin() -> None:
        # A thread starts out on the first GPU, whichever this process uses.
        if pinned_for and pinned_for.index is not None:
            torch.cuda.set_device(pinned_for)

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
