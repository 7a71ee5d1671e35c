"""A process that a test may kill: a copy of this one, which has imported already what it needs."""

from __future__ import annotations

import multiprocessing
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

from tqdm import tqdm

from connectomebench.cli import main


def run_forked(work: Callable[[], object], log: Path, timeout_s: float = 120) -> int:
    """Run a function in a process of its own and return how that ended, as ``subprocess`` says it.

    Parameters
    ----------
    work
        What it changes stays in that process. An exception ends it with 1.
    log
        File for what it prints.
    timeout_s
        Afterwards it is killed.
    """
    return run_forked_together([work], [log], timeout_s)[0]


def run_forked_together(
    works: Sequence[Callable[[], object]], logs: Sequence[Path], timeout_s: float = 120
) -> list[int]:
    """Run functions side by side, each in a process of its own; see :func:`run_forked`."""
    processes = [_start(work, log) for work, log in zip(works, logs, strict=True)]
    deadline = time.monotonic() + timeout_s
    for process in processes:
        process.join(max(deadline - time.monotonic(), 0))
    late = [process for process in processes if process.is_alive()]
    for process in late:
        process.kill()
        process.join()
    if late:
        written = "\n".join(log.read_text()[-2000:] for log in logs)
        raise TimeoutError(f"not ended after {timeout_s:g} s:\n{written}")
    codes = [process.exitcode for process in processes]
    assert None not in codes
    return [code for code in codes if code is not None]


@contextmanager
def forked(work: Callable[[], object], log: Path) -> Iterator[BaseProcess]:
    """Run a function in a process of its own, which is killed at the end of the block.

    Parameters
    ----------
    work
        What it changes stays in that process.
    log
        File for what it prints; there when the block begins.
    """
    log.touch()
    process = _start(work, log)
    try:
        yield process
    finally:
        process.kill()
        process.join()


def forked_command(words: Sequence[str], log: Path) -> AbstractContextManager[BaseProcess]:
    """Run ``connectomebench`` with these words of the command line; see :func:`forked`."""
    return forked(lambda: sys.exit(main(list(words))), log)


def _start(work: Callable[[], object], log: Path) -> BaseProcess:
    def logged() -> None:
        # Forked processes share the lock of tqdm: one that is killed while it draws a bar would keep it for ever.
        tqdm.set_lock(threading.RLock())
        with open(log, "w", buffering=1) as stream:
            sys.stdout = sys.stderr = stream
            work()

    process = multiprocessing.get_context("fork").Process(target=logged)
    process.start()
    return process
