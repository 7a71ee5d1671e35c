"""Run jobs on a Dask cluster: local processes, or a scheduler that runs elsewhere."""

from __future__ import annotations

import logging
import pickle
import uuid
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.execution.runner import FORMS

if TYPE_CHECKING:
    from dask.typing import Key
    from distributed import Client, Future

_log = logging.getLogger(__name__)

_CONNECT_S = 10
# jobs known to the scheduler at a time: enough for it to ask for more machines, little enough to hold in memory
_OUTSTANDING = 1000
# each counts as many lost workers as the scheduler allows a task (three by default, so some twenty in all)
_LOST_WORKERS_ROUNDS = 5
# one job a process, so libraries must not start a thread for every core; bars of many workers would mix
_WORKER_ENVIRONMENT = {
    "NUMBA_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TQDM_DISABLE": "1",
}

# nobody sees the profile of a cluster that lasts one run, and its event loops need not wake 50 times a second
_LOCAL_SETTINGS = {"distributed.worker.profile.enabled": False, "distributed.admin.tick.interval": "1s"}

# Control-C reaches every process of a terminal: workers wait until this process ends them
_LEAVE_INTERRUPTS = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"

JobT = TypeVar("JobT")
ResultT = TypeVar("ResultT")


class DaskRunner:
    """Runs jobs on a Dask cluster; implements :class:`connectomebench.execution.runner.Runner`.

    A job of a lost worker goes to another one: Dask does that a few times itself, then the job is submitted again.

    Parameters
    ----------
    client
        Connected to the scheduler.
    """

    in_process = False

    def __init__(self, client: Client) -> None:
        self._client = client

    def run(
        self, work: Callable[[JobT], ResultT], jobs: Sequence[JobT], label: str
    ) -> Generator[tuple[int, ResultT], None, None]:
        """See :meth:`connectomebench.execution.runner.Runner.run`."""
        from distributed import CancelledError, as_completed
        from distributed.scheduler import KilledWorker

        waiting = iter(range(len(jobs)))
        at_work: dict[Key, tuple[int, Future]] = {}
        rounds: Counter[int] = Counter()
        done = as_completed(loop=self._client.loop)

        def submit(i: int) -> None:
            # a key of its own: Dask would otherwise take jobs of the same content for one
            call = pickle.dumps(_Call(work, jobs[i]))
            future = self._client.submit(pickle.loads, call, pure=False, key=f"{label}-{uuid.uuid4().hex}")
            at_work[future.key] = (i, future)
            done.add(future)

        try:
            for i in islice(waiting, _OUTSTANDING):
                submit(i)
            for future in done:
                i, _ = at_work.pop(future.key)
                try:
                    result = future.result()
                except KilledWorker:
                    rounds[i] += 1
                    _check_rounds(rounds[i], label)
                    _log.warning("%s: workers were lost; job %d is done again", label, i)
                    submit(i)
                    continue
                except CancelledError as error:
                    raise ConnectomeBenchError(
                        f"{label}: the connection to the Dask scheduler is lost; start it and run the same command "
                        "again to continue"
                    ) from error
                except (ImportError, AttributeError) as error:
                    if isinstance(error, AttributeError) and "get attribute" not in str(error):
                        raise
                    raise ConnectomeBenchError(
                        f"{label}: a worker lacks what this process has ({error}); install the same version of "
                        "connectomebench and its extras for every worker"
                    ) from error
                yield i, result
                for following in islice(waiting, 1):
                    submit(following)
        finally:
            self._client.cancel([future for _, future in at_work.values()])


def _check_rounds(rounds: int, label: str) -> None:
    if rounds >= _LOST_WORKERS_ROUNDS:
        raise ConnectomeBenchError(
            f"{label}: every worker that took the same job was lost; they may lack memory: start fewer workers on each "
            "machine or with more memory, and run the same command again to continue"
        )


class _Call:
    """A call that runs when it is unpickled.

    Dask gets ``pickle.loads`` and bytes, which every worker can read, so a worker without this package answers with an
    error. Given the work itself, such a worker would close the connection silently, and the job would never end.
    """

    def __init__(self, work: Callable[[Any], Any], job: Any) -> None:
        self._work = work
        self._job = job

    def __reduce__(self) -> tuple[Callable[[Any], Any], tuple[Any]]:
        return self._work, (self._job,)


@contextmanager
def local_client(workers: int) -> Iterator[Client]:
    """Start single-threaded worker processes on this machine, and stop them on exit; dead ones restart.

    Parameters
    ----------
    workers
        Number of processes.
    """
    import dask.config
    from distributed import Client, LocalCluster

    with (
        _quiet(logging.WARNING),
        dask.config.set(_LOCAL_SETTINGS),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
            silence_logs=logging.ERROR,
            env=_WORKER_ENVIRONMENT,
            preload=[_LEAVE_INTERRUPTS],
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@contextmanager
def remote_client(address: str, spec: str) -> Iterator[Client]:
    """Connect to a running scheduler.

    Parameters
    ----------
    address
        Such as ``tcp://host:8786``.
    spec
        As given by the user, for messages.

    Raises
    ------
    ConnectomeBenchError
        If the address is invalid, no scheduler answers within 10 s, or certificates are missing.
    """
    from distributed import Client

    _check_address(address)
    with _quiet(logging.WARNING):
        try:
            client = Client(address, timeout=_CONNECT_S, set_as_default=False)
        except OSError as error:
            raise ConnectomeBenchError(
                f"no Dask scheduler answers at {spec} within {_CONNECT_S} s ({error}); check that it runs and that "
                "this machine reaches it"
            ) from error
        with client:
            if not client.nthreads():
                _log.info("no worker at %s yet; waiting for one", spec)
            yield client


def _check_address(address: str) -> None:
    """Reject early what a client would fail on late: unknown protocol, no port, TLS without certificates."""
    from distributed.comm.addressing import parse_address, parse_host_port
    from distributed.comm.registry import backends

    protocol, host = parse_address(address)
    try:
        parse_host_port(host)
    except ValueError:
        host = ""
    if protocol not in backends or not host:
        raise ConnectomeBenchError(f"scheduler {address!r} is not the address of a Dask scheduler; give {FORMS}")
    if protocol == "tls" and not _has_certificates():
        raise ConnectomeBenchError(
            f"{address} needs certificates; name files that exist in Dask's configuration: "
            "distributed.comm.tls.ca-file, distributed.comm.tls.client.cert and distributed.comm.tls.client.key"
        )


def _has_certificates() -> bool:
    from distributed.security import Security

    try:
        return Security().get_connection_args("client")["ssl_context"] is not None
    except OSError:  # a file that is named and missing, or no certificate
        return False


@contextmanager
def _quiet(level: int) -> Iterator[None]:
    """Set the log level of Dask inside the block."""
    logger = logging.getLogger("distributed")
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
