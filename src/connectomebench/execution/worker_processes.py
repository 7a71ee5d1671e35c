"""Call one function of this package in several processes of this machine, each with its share of the cores.

A worker is started by its own command and reads its calls from a pipe: nothing is forked or pickled, the program that
starts it needs no guard of its main module, and a worker ends with its parent: files must be written under other names
and renamed.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from importlib import import_module
from itertools import count
from typing import IO, Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.logs import show_log
from connectomebench.core.memory import memory_bytes

THREAD_LIMITS = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Environment variables by which libraries limit their threads."""

_LAST = float("inf")
Arguments = Mapping[str, str]
Submit = Callable[[Arguments, float], Future[None]]
_Waiting = queue.PriorityQueue[tuple[float, int, "tuple[Arguments, Future[None]] | None"]]


def suitable_workers(cores: int, most: int, worker_bytes: int) -> int:
    """Return how many workers suit this machine or container: one a core, as far as its memory holds them.

    Parameters
    ----------
    cores
        Cores that this process may use.
    most
        Calls that can run beside each other.
    worker_bytes
        Memory that a worker needs.

    Returns
    -------
    int
        At least 1. Where the size of the memory is not known, it sets no limit.
    """
    memory = memory_bytes()
    fitting = most if memory is None else memory // worker_bytes
    return max(min(cores, most, fitting), 1)


@contextmanager
def open_workers(function: str, workers: int, threads: int, prepare: str | None = None) -> Iterator[Submit]:
    """Start worker processes, and end them on exit: after the calls that wait, or at once where an error passes.

    Parameters
    ----------
    function
        ``package.module:name`` of a function that takes keyword arguments, all text, and returns nothing.
    workers
        Number of processes.
    threads
        Threads of each, of libraries too.
    prepare
        The same of a function without arguments that a worker calls when it starts, for what all calls need.

    Yields
    ------
    callable
        Submit a call: its arguments and its rank, of which the lowest that waits runs first. Returns a future, which
        raises ConnectomeBenchError as the function does, or where the process was lost.
    """
    waiting: _Waiting = queue.PriorityQueue()
    number = count()
    command = [sys.executable, "-P", "-m", __name__, function, *([] if prepare is None else [prepare])]
    # progress bars of several processes would mix
    environment = os.environ | dict.fromkeys(THREAD_LIMITS, str(threads)) | {"TQDM_DISABLE": "1"}
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        for _ in range(workers)
    ]
    served = [threading.Thread(target=_serve, args=(process, waiting), daemon=True) for process in started]

    def submit(arguments: Arguments, rank: float = 0.0) -> Future[None]:
        future: Future[None] = Future()
        waiting.put((rank, next(number), (arguments, future)))
        return future

    try:
        for thread in served:
            thread.start()
        yield submit
    except BaseException:
        # files are written under other names and renamed, so nothing is left half-written
        for process in started:
            process.kill()
        raise
    finally:
        for _ in started:
            waiting.put((_LAST, next(number), None))
        for thread, process in zip(served, started, strict=True):
            thread.join()
            process.communicate()


def _serve(process: subprocess.Popen[bytes], waiting: _Waiting) -> None:
    """Send a worker one call after the other, until there is none."""
    while (call := waiting.get()[2]) is not None:
        arguments, future = call
        if not future.set_running_or_notify_cancel():
            continue
        try:
            _ask(process, arguments)
        except ConnectomeBenchError as error:
            future.set_exception(error)
        else:
            future.set_result(None)


def _ask(process: subprocess.Popen[bytes], arguments: Arguments) -> None:
    """Let a worker make one call; raise its error."""
    assert process.stdin is not None and process.stdout is not None
    line = b""
    with suppress(OSError):  # it may have ended before
        process.stdin.write(json.dumps(dict(arguments)).encode() + b"\n")
        process.stdin.flush()
        line = process.stdout.readline()
    if not line:
        raise ConnectomeBenchError(
            f"the process for {', '.join(arguments.values())} was lost (status {process.wait()}; its last lines are "
            "above); it may lack memory: free some, and run the same command again to continue"
        )
    problem = json.loads(line)
    if problem is not None:
        raise ConnectomeBenchError(problem)


def _work(function: Callable[..., None], calls: queue.SimpleQueue[bytes], answers: IO[str]) -> None:
    """Make the calls that come, and answer each with null or what the user can mend, a line of JSON."""
    while True:
        problem: str | None = None
        try:
            function(**json.loads(calls.get()))
        except ConnectomeBenchError as error:
            problem = str(error)
        print(json.dumps(problem), file=answers, flush=True)


def _read_calls(stream: IO[bytes], calls: queue.SimpleQueue[bytes]) -> None:
    """Hand calls on until there are no more, or the process that sends them is gone."""
    for line in stream:
        calls.put(line)
    os._exit(0)


def _main(function: str, prepare: str | None = None) -> None:
    # Control-C reaches every process of a terminal: the one that started this reports it
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    show_log()
    calls: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read_calls, args=(sys.stdin.buffer, calls), daemon=True).start()
    if prepare is not None:
        _find(prepare)()
    _work(_find(function), calls, answers)


def _find(name: str) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


if __name__ == "__main__":
    try:
        _main(*sys.argv[1:])
    except Exception:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # the thread that waits for calls would be in the way of an orderly end
