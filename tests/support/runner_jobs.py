"""Jobs of runners: a worker of a cluster imports this module, which takes no time, and not the tests."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from connectomebench.core.errors import ConnectomeBenchError


def double(number: int) -> int:
    return 2 * number


def refuse(number: int) -> int:
    if number == 3:
        raise ConnectomeBenchError("three is one too many; count less")
    if number == 5:
        raise ZeroDivisionError("a mistake in the code")
    return number


def die_once(folder: Path, number: int) -> tuple[int, int]:
    """End the worker that is the first to try number 2."""
    marker = folder / "died"
    if number == 2 and not marker.exists():
        marker.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)
    return number, os.getpid()


def die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def touch_slowly(folder: Path, number: int) -> int:
    (folder / str(number)).touch()
    time.sleep(0.15)
    return number


def note_process(folder: Path, number: int) -> int:
    (folder / str(os.getpid())).touch()
    time.sleep(0.02)
    return number


def look_around(number: int) -> tuple[int, dict[str, str], bool]:
    return os.getpid(), dict(os.environ), signal.getsignal(signal.SIGINT) is signal.SIG_IGN
