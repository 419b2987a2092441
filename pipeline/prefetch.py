"""Training steps prepared while the GPU works on the ones before."""

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor

from pipeline.batches import Step, StepDataset

# Steps that lie ready; one would do, two even out a slow disk.
_AHEAD = 2


def prefetched(steps: StepDataset, pin_memory: bool) -> Generator[Step]:
    """Yield the steps in order, each prepared in a thread while the caller works on those before.

    One thread is enough: a batch of 8 images takes it 2 ms, and the training loop waits for the GPU without
    the interpreter's lock. Processes would each have to start, import torch, and be handed the features.

    Args:
        steps: what to prepare.
        pin_memory: put each step into page-locked memory, from which copies to a GPU need not be waited for.
    """

    def prepare(index: int) -> Step:
        step = steps[index]
        return step.pin_memory() if pin_memory else step

    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch")
    ready: deque[Future[Step]] = deque()
    try:
        for index in range(len(steps)):
            ready.append(thread.submit(prepare, index))
            if len(ready) > _AHEAD:
                yield ready.popleft().result()
        while ready:
            yield ready.popleft().result()
    finally:
        # Whoever stops early wants no more of them.
        thread.shutdown(cancel_futures=True)
