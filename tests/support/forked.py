"""A process that a test may kill: a copy of this one, which has imported already what it needs."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from pathlib import Path


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

    def logged() -> None:
        with open(log, "w", buffering=1) as stream:
            sys.stdout = sys.stderr = stream
            work()

    process = multiprocessing.get_context("fork").Process(target=logged)
    process.start()
    process.join(timeout_s)
    if process.is_alive():
        process.kill()
        process.join()
        raise TimeoutError(f"not ended after {timeout_s:g} s:\n{log.read_text()[-2000:]}")
    assert process.exitcode is not None
    return process.exitcode
