"""The runner protocol, and runners that stay in this process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import as_completed as threads_completed
from typing import Protocol, TypeVar

_log = logging.getLogger(__name__)


IN_PROCESS = "none"


FORMS = (
    "none, local, local:N, the address of a Dask scheduler (tcp://host:8786, tls://host:8786) or the path of its "
    "JSON file"
)


JobT = TypeVar("JobT")


ResultT = TypeVar("ResultT")


class Runner(Protocol):
    """Runs jobs, several at a time."""

    @property
    def in_process(self) -> bool:
        """True where jobs share the objects of this process; otherwise work and jobs are pickled."""
        ...

    def run(
        self, work: Callable[[JobT], ResultT], jobs: Sequence[JobT], label: str
    ) -> Generator[tuple[int, ResultT], None, None]:
        """Run all jobs.

        Parameters
        ----------
        work
            Runs one job and returns a small result. It may be called twice for the same job.
        jobs
            Jobs, in the order in which they start.
        label
            Name of the work on the scheduler's pages and in messages.

        Yields
        ------
        int, ResultT
            Index of a job and its result, as jobs finish. Closing the generator drops waiting jobs.

        Raises
        ------
        ConnectomeBenchError
            As raised by a job, or where the workers are lost for good. Other errors of a job pass unchanged.
        """
        ...


class SerialRunner:
    """Runs one job after the other in the calling thread; implements :class:`Runner`."""

    in_process = True

    def run(
        self, work: Callable[[JobT], ResultT], jobs: Sequence[JobT], label: str
    ) -> Generator[tuple[int, ResultT], None, None]:
        """See :meth:`Runner.run`."""
        _log.debug("%s: %d jobs", label, len(jobs))
        for i, job in enumerate(jobs):
            yield i, work(job)


class ThreadRunner:
    """Runs jobs in threads of this process; implements :class:`Runner`.

    Parameters
    ----------
    pool
        Runs the jobs. Closing it waits for running jobs.
    """

    in_process = True

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool

    def run(
        self, work: Callable[[JobT], ResultT], jobs: Sequence[JobT], label: str
    ) -> Generator[tuple[int, ResultT], None, None]:
        """See :meth:`Runner.run`."""
        _log.debug("%s: %d jobs", label, len(jobs))
        index = {self._pool.submit(work, job): i for i, job in enumerate(jobs)}
        try:
            for future in threads_completed(index):
                yield index[future], future.result()
        finally:
            for future in index:
                future.cancel()
