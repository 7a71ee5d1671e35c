"""Where work is done: in threads of this process, or by the workers of a Dask cluster.

A job is small, can be pickled, and writes its own file whole or not at all (:func:`connectomebench.files.atomic_path`).
So a job whose worker is lost is simply done again elsewhere, and one that is done twice does no harm.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import as_completed as threads_completed
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, TypeVar

from connectomebench.errors import ConnectomeBenchError

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


@contextmanager
def open_runner(spec: str, threads: int) -> Iterator[Runner]:
    """Open the place where work is done, and close it at the end.

    Parameters
    ----------
    spec
        ``none``: threads of this process. ``local`` or ``local:N``: worker processes of this machine. ``tcp://...``,
        ``tls://...``: a running Dask scheduler, as dask-jobqueue, dask-kubernetes and cloud services start them; a path
        is the JSON file that such a scheduler writes (``--scheduler-file``). Certificates for ``tls://`` are those of
        Dask's own configuration (``distributed.comm.tls``).
    threads
        Threads of ``none``, and workers of ``local``.

    Raises
    ------
    ConnectomeBenchError
        If ``spec`` is none of these, the extra ``cluster`` is not installed, or no scheduler answers within 10 s.
    """
    if spec == IN_PROCESS:
        # leaving the context waits for the jobs that are at work
        with ThreadPoolExecutor(threads, thread_name_prefix="connectomebench-job") as pool:
            yield ThreadRunner(pool)
        return
    workers = _local_workers(spec, threads)
    address = _address(spec) if workers is None else ""
    if find_spec("distributed") is None:
        raise ConnectomeBenchError(
            f"the scheduler {spec} needs Dask; run pip install 'connectomebench[cluster]' or take --scheduler none"
        )
    from connectomebench.dask_workers import DaskRunner, local_client, remote_client

    with local_client(workers) if workers is not None else remote_client(address, spec) as client:
        yield DaskRunner(client)


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


def _local_workers(spec: str, threads: int) -> int | None:
    """Count the workers that ``local`` or ``local:N`` asks for; None where it is something else."""
    if spec == "local":
        return threads
    if not spec.startswith("local:"):
        return None
    number = spec.removeprefix("local:")
    if not number.isdecimal() or int(number) < 1:
        raise ConnectomeBenchError(f"scheduler {spec!r}: N in local:N must be a whole number of at least 1")
    return int(number)


def _address(spec: str) -> str:
    """Give the address of a running scheduler, written out or in the JSON file that the scheduler writes."""
    if "://" in spec:
        return spec
    try:
        address = json.loads(Path(spec).read_text(encoding="utf-8"))["address"]
    except OSError as error:
        raise ConnectomeBenchError(f"scheduler {spec!r} cannot be read ({error.strerror}); give {FORMS}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConnectomeBenchError(
            f"{spec} is not the JSON file of a Dask scheduler; start one with `dask scheduler --scheduler-file {spec}`"
        ) from error
    return str(address)
