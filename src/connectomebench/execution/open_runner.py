"""Open a runner: threads of this process, or the workers of a Dask cluster.

A job is small, can be pickled, and writes its own file atomically (:func:`connectomebench.core.files.atomic_path`). So
a job whose worker is lost is repeated elsewhere, and a job that runs twice does no harm.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.extras import install_hint
from connectomebench.execution.runner import FORMS, IN_PROCESS, Runner, ThreadRunner

_log = logging.getLogger(__name__)


@contextmanager
def open_runner(spec: str, threads: int) -> Iterator[Runner]:
    """Open a runner, and close it on exit.

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
        # leaving the context waits for running jobs
        with ThreadPoolExecutor(threads, thread_name_prefix="connectomebench-job") as pool:
            yield ThreadRunner(pool)
        return
    workers = _local_workers(spec, threads)
    address = _address(spec) if workers is None else ""
    if find_spec("distributed") is None:
        raise ConnectomeBenchError(
            f"the scheduler {spec} needs Dask; run {install_hint('cluster')}, or use --scheduler none"
        )
    from connectomebench.execution.dask_runner import DaskRunner, local_client, remote_client

    with local_client(workers) if workers is not None else remote_client(address, spec) as client:
        yield DaskRunner(client)


def _local_workers(spec: str, threads: int) -> int | None:
    """Return the number of workers in ``local`` or ``local:N``; None for anything else."""
    if spec == "local":
        return threads
    if not spec.startswith("local:"):
        return None
    number = spec.removeprefix("local:")
    if not number.isdecimal() or int(number) < 1:
        raise ConnectomeBenchError(f"scheduler {spec!r}: N in local:N must be a whole number of at least 1")
    return int(number)


def _address(spec: str) -> str:
    """Return the address of a running scheduler, as given or from the JSON file that the scheduler writes."""
    if "://" in spec:
        return spec
    try:
        address = json.loads(Path(spec).read_text(encoding="utf-8"))["address"]
    except OSError as error:
        raise ConnectomeBenchError(f"scheduler {spec!r} cannot be read ({error.strerror}); give {FORMS}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConnectomeBenchError(
            f"{spec} is not the JSON file of a Dask scheduler; start one with `dask scheduler --scheduler-file {spec}`"
        ) from error
    return str(address)
