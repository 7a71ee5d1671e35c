"""Runners: jobs one after the other, or in threads of this process."""

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
    """Does jobs, several at a time."""

    @property
    def in_process(self) -> bool:
        """True where the jobs see the objects of this process; elsewhere work and jobs travel as pickles."""
        ...

    def run(
        self, work: Callable[[JobT], ResultT], jobs: Sequence[JobT], label: str
    ) -> Generator[tuple[int, ResultT], None, None]:
        """Do all jobs.

        Parameters
        ----------
        work
            Does one job and returns something small. It may be called twice for the same job.
        jobs
            What there is to do, in the order in which it is begun.
        label
            Name of the work on the scheduler's pages and in messages.

        Yields
        ------
        int, ResultT
            Index of a job and its result, as jobs end. When the generator is closed, jobs that wait are dropped.

        Raises
        ------
        ConnectomeBenchError
            As raised by a job, or where the workers are lost for good. Other errors of a job are raised as they are.
        """
        ...


class SerialRunner:
    """One job after the other in the calling thread; implements :class:`Runner`."""

    in_process = True

    def run(
        self, work: Callable[[JobT], ResultT], jobs: Sequence[JobT], label: str
    ) -> Generator[tuple[int, ResultT], None, None]:
        """See :meth:`Runner.run`."""
        _log.debug("%s: %d jobs", label, len(jobs))
        for i, job in enumerate(jobs):
            yield i, work(job)


class ThreadRunner:
    """Threads of this process; implements :class:`Runner`.

    Parameters
    ----------
    pool
        Does the jobs. Closing it waits for those at work.
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
