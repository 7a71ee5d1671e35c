"""Functions that worker processes call."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from connectomebench.core.errors import ConnectomeBenchError

_PREPARED: list[str] = []


def prepare() -> None:
    _PREPARED.append("once")


def note(name: str, folder: str) -> None:
    """Write down the process, its threads and what was prepared."""
    print("this is no answer")
    words = [str(os.getpid()), os.environ["OMP_NUM_THREADS"], *_PREPARED]
    Path(folder, name).write_text(" ".join(words), encoding="utf-8")


def meet(name: str, folder: str) -> None:
    """Wait until another call is at work, which only a second process can be."""
    Path(folder, name).touch()
    for _ in range(600):
        if len(list(Path(folder).iterdir())) > 1:
            return
        time.sleep(0.05)
    raise ConnectomeBenchError("alone")


def append(name: str, folder: str) -> None:
    """Add a line, after those of earlier calls; the first waits until others wait."""
    path = Path(folder, "order")
    while name == "first" and not Path(folder, "go").exists():
        time.sleep(0.02)
    with path.open("a", encoding="utf-8") as stream:
        stream.write(f"{name}\n")


def refuse(name: str, folder: str) -> None:
    raise ConnectomeBenchError(f"{name}: mend ß, then try again")


def break_down(name: str, folder: str) -> None:
    raise ZeroDivisionError(name)


def vanish(name: str, folder: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def linger(name: str, folder: str) -> None:
    """Say who this is, and take long."""
    path = Path(folder, "pid")
    path.with_suffix(".part").write_text(str(os.getpid()), encoding="utf-8")
    path.with_suffix(".part").rename(path)
    time.sleep(600)
