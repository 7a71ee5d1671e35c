"""The line of visitors who ask the models: few at once, some in line, the others are asked to come back.

In Gradio's own queue, asks that wait for seconds would fill the places of all other events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TypeVar

from connectomebench.core.errors import ConnectomeBenchError

AT_ONCE = 2
WAITING = 16

_Result = TypeVar("_Result")


class AskLine:
    """Runs functions in a few threads, and refuses those that would have to wait behind too many others.

    Parameters
    ----------
    at_once
        Number of threads.
    waiting
        How many may wait for one.
    """

    def __init__(self, at_once: int = AT_ONCE, waiting: int = WAITING) -> None:
        self._pool = ThreadPoolExecutor(at_once, "ask")
        self._lock = Lock()
        self._free = at_once + waiting

    async def run(self, work: Callable[[], _Result]) -> _Result:
        """Wait for a thread, run a function in it and return its result; no thread is held while it waits.

        Raises
        ------
        ConnectomeBenchError
            If the line is full.
        """
        with self._lock:
            if not self._free:
                raise ConnectomeBenchError("many people are asking at present; ask again in a minute")
            self._free -= 1
        future = self._pool.submit(work)
        # counted until the work has ended, even if its visitor has left
        future.add_done_callback(lambda _: self._leave())
        return await asyncio.wrap_future(future)

    def _leave(self) -> None:
        with self._lock:
            self._free += 1
