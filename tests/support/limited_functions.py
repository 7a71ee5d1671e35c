"""Functions that misbehave in a process of their own."""

from __future__ import annotations

import os
import signal
import time

from connectomebench.core.errors import ConnectomeBenchError


def reverse(parts: list[bytes]) -> list[bytes]:
    return [part[::-1] for part in parts]


def refuse(_parts: list[bytes]) -> list[bytes]:
    raise ConnectomeBenchError("mend ß, then try again")


def fill_memory(_parts: list[bytes]) -> list[bytes]:
    return [b"".join(bytes(10_000_000) for _ in range(1000))]


def spin(_parts: list[bytes]) -> list[bytes]:
    while True:
        pass


def write_much(_parts: list[bytes]) -> list[bytes]:
    return [bytes(2_000_000)]


def crash(_parts: list[bytes]) -> list[bytes]:
    os.kill(os.getpid(), signal.SIGSEGV)
    return []


def raise_bug(_parts: list[bytes]) -> list[bytes]:
    raise KeyError("a bug")


def environment(parts: list[bytes]) -> list[bytes]:
    return [os.environ.get(part.decode(), "").encode() for part in parts]


def number_or_misbehave(parts: list[bytes]) -> list[bytes]:
    """Do what the first part says."""
    how, given = parts[0].decode(), parts[1:]
    if how == "who":
        return [str(os.getpid()).encode()]
    if how == "back":
        return reverse(given)
    if how == "print":
        print("this is no answer", flush=True)
        return [b"printed"]
    if how == "work":
        until = time.process_time() + float(given[0])
        while time.process_time() < until:
            pass
        return []
    named = {f.__name__: f for f in (refuse, fill_memory, spin, write_much, crash, raise_bug)}
    return named[how](given)
