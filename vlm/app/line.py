"""One model, many visitors: their calls wait in line and run one at a time."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Line:
    """Runs calls in a thread of its own, one after another, in the order in which they came.

    A thread, so that the server goes on answering; one, because two calls of a model at a time would take
    twice the memory and be no faster.
    """

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, call: Callable[[], T]) -> T:
        """The result of `call`, when its turn has come. Cancelled while it waits, it never runs."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def close(self) -> None:
        """Forget those that wait and end the thread after the call that it is at."""
        self._thread.shutdown(wait=False, cancel_futures=True)
