"""Functions that misbehave in a process of their own."""

from __future__ import annotations

import os
import signal

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
