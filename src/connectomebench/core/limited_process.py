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
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, NoReturn

from connectomebench.core.errors import ConnectomeBenchError

_DONE, _REFUSED, _TOO_MUCH = 0, 3, 4
# status and number of parts of an answer
_HEAD = struct.Struct("<BQ")
_MESSAGE_BYTES = 1000
# times as much as its processor time may pass while a long-lived process answers on a busy machine
_SLOWEST = 10
# a library that is out of memory may abort, so that is none of them
_CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}
# what Python needs to start and to find this package; no token is among them
_ENVIRONMENT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR", "NUMBA_CACHE_DIR")


class ProcessFailed(ConnectomeBenchError):
    """The process crashed, or exceeded a limit, in place of an answer of the function."""


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
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as found, tempfile.TemporaryFile() as said:
        _write(given, parts)
        given.seek(0)
        try:
            ended = subprocess.run(
                _command("once", function, limits),
                stdin=given,
                stdout=found,
                stderr=said,
                env=_environment(),
                timeout=3 * limits.seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise _too_much(what) from None
        if ended.returncode == _REFUSED:
            said.seek(0)
            raise ConnectomeBenchError(said.read(_MESSAGE_BYTES).decode("utf-8", "replace"))
        if ended.returncode != 0:
            _raise_for(ended.returncode, what)
        found.seek(0)
        return _read(found, limits.output_bytes)


class LimitedProcess:
    """Another process that calls one function of this package again and again, for many small inputs.

    It starts with the first call. A call that crashes or exceeds a limit ends it, and the next call starts another. One
    call runs at a time; the process ends with this object.

    Parameters
    ----------
    function
        As for :func:`run_limited`.
    limits
        Memory of the process, processor time and output of each call; None takes the defaults of `Limits`.
    """

    def __init__(self, function: str, limits: Limits | None = None) -> None:
        self._function = function
        self._limits = limits or Limits()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._end: Callable[[], object] | None = None

    def call(self, parts: Sequence[bytes], what: str) -> list[bytes]:
        """Call the function.

        Parameters
        ----------
        parts, what
            As for :func:`run_limited`.

        Raises
        ------
        ConnectomeBenchError
            As for :func:`run_limited`.
        """
        with self._lock:
            process = self._started()
            late = threading.Timer(_SLOWEST * self._limits.seconds, process.kill)
            late.daemon = True
            late.start()
            try:
                code, found = self._ask(process, parts, what)
            except BaseException:
                # what the process still writes would be taken for the next answer
                self._stop()
                raise
            finally:
                late.cancel()
        if code == _REFUSED:
            raise ConnectomeBenchError(found[0].decode("utf-8", "replace"))
        if code != _DONE:
            raise _too_much(what)
        return found

    def close(self) -> None:
        """End the process; a later call starts another."""
        with self._lock:
            self._stop()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._owner == os.getpid() and self._process.poll() is None:
            return self._process
        # after a fork, the process answers the parent alone
        self._process = subprocess.Popen(
            _command("serve", self._function, self._limits),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
        )
        self._owner = os.getpid()
        self._end = weakref.finalize(self, _end, self._process, self._owner)
        return self._process

    def _ask(self, process: subprocess.Popen[bytes], parts: Sequence[bytes], what: str) -> tuple[int, list[bytes]]:
        """Return the status and the parts of an answer."""
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(struct.pack("<Q", len(parts)))
            _write(process.stdin, parts)
        except BrokenPipeError:
            _raise_for(process.wait(), what)
        head = process.stdout.read(_HEAD.size)
        if len(head) < _HEAD.size:
            _raise_for(process.wait(), what)
        code, count = _HEAD.unpack(head)
        return code, _read(process.stdout, self._limits.output_bytes, count)

    def _stop(self) -> None:
        if self._end is not None:
            self._end()
        self._process, self._end = None, None


def _command(mode: str, function: str, limits: Limits) -> list[str]:
    numbers = [str(number) for number in (limits.memory_bytes, limits.seconds, limits.output_bytes)]
    return [sys.executable, "-m", __name__, mode, function, *numbers]


def _environment() -> dict[str, str]:
    found = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    # each thread of a library reserves address space
    return found | dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def _end(process: subprocess.Popen[bytes], owner: int) -> None:
    """End a process of this one; its pipes are closed in any case."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
    if owner == os.getpid():
        process.kill()
        process.wait()


def _raise_for(status: int, what: str) -> NoReturn:
    """Raise for the exit status of a process that gave no result."""
    if -status in _CRASHES:
        raise ProcessFailed(f"{what} crashes the library that reads it, so it is damaged; get it again")
    raise _too_much(what)


def _too_much(what: str) -> ProcessFailed:
    return ProcessFailed(f"{what} cannot be read within the memory and time there are; give a smaller one")


def _write(file: IO[bytes], parts: Sequence[bytes]) -> None:
    for part in parts:
        file.write(struct.pack("<Q", len(part)))
        file.write(part)
    file.flush()


def _read(file: IO[bytes], largest: int, count: int | None = None) -> list[bytes]:
    """Read so many parts; None reads to the end."""
    parts: list[bytes] = []
    while (count is None or len(parts) < count) and (start := file.read(8)):
        (size,) = struct.unpack("<Q", start)
        part = file.read(min(size, largest))
        if len(part) != size:
            raise ConnectomeBenchError("a part of the result is missing; try again")
        parts.append(part)
    return parts


def _main(mode: str, function: str, memory: str, seconds: str, output: str) -> int:
    """Set the limits, and only then import and call the function."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(output), int(output)))
    resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
    if mode == "serve":
        return _serve(function, int(seconds), int(output))
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds) + 1))
    code, found = _called(function, _read(sys.stdin.buffer, sys.maxsize))
    if code == _REFUSED:
        sys.stderr.buffer.write(found[0])
        return code
    try:
        _write(sys.stdout.buffer, found)
    except OSError:
        return _TOO_MUCH
    return code


def _serve(function: str, seconds: int, output: int) -> int:
    """Answer calls until there are no more."""
    # what the function prints must not be taken for an answer
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    while start := sys.stdin.buffer.read(8):
        (count,) = struct.unpack("<Q", start)
        given = _read(sys.stdin.buffer, sys.maxsize, count)
        signal.setitimer(signal.ITIMER_PROF, seconds)  # ends the process
        code, found = _called(function, given)
        signal.setitimer(signal.ITIMER_PROF, 0)
        if sum(map(len, found)) > output:
            code, found = _TOO_MUCH, []
        answers.write(_HEAD.pack(code, len(found)))
        _write(answers, found)
    return 0


def _called(function: str, given: list[bytes]) -> tuple[int, list[bytes]]:
    """Return the status of a call and its result, or the message of its refusal."""
    module, _, name = function.partition(":")
    try:
        return _DONE, getattr(importlib.import_module(module), name)(given)
    except ConnectomeBenchError as error:
        return _REFUSED, [str(error).encode()]
    except (MemoryError, OSError):
        return _TOO_MUCH, []


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
