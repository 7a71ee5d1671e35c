"""Run a function on untrusted bytes in a process of its own, with a limit on memory, time and output.

Checks before parsing catch the tricks that are known. This catches the next one: it costs one request, not the server.
"""

from __future__ import annotations

import importlib
import os
import resource
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from connectomebench.core.errors import ConnectomeBenchError

_REFUSED, _TOO_MUCH = 3, 4
_MESSAGE_BYTES = 1000
# a library that is out of memory may abort, so that is none of them
_CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}
# what Python needs to start and to find this package; no token is among them
_ENVIRONMENT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR", "NUMBA_CACHE_DIR")


@dataclass(frozen=True)
class Limits:
    """Limits on a process.

    Attributes
    ----------
    memory_bytes
        Address space, with that of Python and its libraries (about 1 GB).
    seconds
        Processor time; three times as much may pass on a busy machine.
    output_bytes
        Size of what it gives back.
    """

    memory_bytes: int = 3_000_000_000
    seconds: int = 20
    output_bytes: int = 200_000_000


def run_limited(function: str, parts: Sequence[bytes], what: str, limits: Limits | None = None) -> list[bytes]:
    """Call a function of this package in another process.

    Parameters
    ----------
    function
        ``package.module:name`` of a function that takes a list of bytes and returns a list of bytes. What it gives back
        is as trustworthy as what it got.
    parts
        Its argument.
    what
        What is read, for messages: ``the mesh``.
    limits
        None takes the defaults of `Limits`.

    Returns
    -------
    list of bytes
        Its result.

    Raises
    ------
    ConnectomeBenchError
        The function's own, or if it exceeds a limit or crashes.
    """
    limits = limits or Limits()
    numbers = [str(number) for number in (limits.memory_bytes, limits.seconds, limits.output_bytes)]
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    # each thread of a library reserves address space
    environment |= dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as found, tempfile.TemporaryFile() as said:
        _write(given, parts)
        given.seek(0)
        try:
            ended = subprocess.run(
                [sys.executable, "-m", __name__, function, *numbers],
                stdin=given,
                stdout=found,
                stderr=said,
                env=environment,
                timeout=3 * limits.seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise _too_much(what) from None
        if ended.returncode == _REFUSED:
            said.seek(0)
            raise ConnectomeBenchError(said.read(_MESSAGE_BYTES).decode("utf-8", "replace"))
        if -ended.returncode in _CRASHES:
            raise ConnectomeBenchError(f"{what} crashes the library that reads it, so it is damaged; get it again")
        if ended.returncode != 0:
            raise _too_much(what)
        found.seek(0)
        return _read(found, limits.output_bytes)


def _too_much(what: str) -> ConnectomeBenchError:
    return ConnectomeBenchError(f"{what} cannot be read within the memory and time there are; give a smaller one")


def _write(file: IO[bytes], parts: Sequence[bytes]) -> None:
    for part in parts:
        file.write(struct.pack("<Q", len(part)))
        file.write(part)
    file.flush()


def _read(file: IO[bytes], largest: int) -> list[bytes]:
    parts = []
    while start := file.read(8):
        (size,) = struct.unpack("<Q", start)
        part = file.read(min(size, largest))
        if len(part) != size:
            raise ConnectomeBenchError("a part of the result is missing; try again")
        parts.append(part)
    return parts


def _main(function: str, memory: str, seconds: str, output: str) -> int:
    """Set the limits, and only then import and call the function."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds) + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(output), int(output)))
    resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
    module, _, name = function.partition(":")
    try:
        given = _read(sys.stdin.buffer, sys.maxsize)
        _write(sys.stdout.buffer, getattr(importlib.import_module(module), name)(given))
    except ConnectomeBenchError as error:
        print(error, end="", file=sys.stderr)
        return _REFUSED
    except (MemoryError, OSError):
        return _TOO_MUCH
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
