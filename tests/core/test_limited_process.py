"""What takes too much memory, time or space, or crashes, costs its own process alone."""

from __future__ import annotations

import os
import resource
import signal
import time
from pathlib import Path

import pytest

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.limited_process import LimitedProcess, Limits, ProcessFailed, run_limited

HERE = "limited_functions"
SMALL = Limits(memory_bytes=600_000_000, seconds=2, output_bytes=1_000_000)


@pytest.fixture(autouse=True)
def findable(monkeypatch: pytest.MonkeyPatch) -> None:
    support = Path(__file__).parents[1] / "support"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(support), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("CAVE_TOKEN", "secret")


def test_parts_go_there_and_back() -> None:
    parts = [b"", b"one", bytes(range(256)) * 1000]
    assert run_limited(f"{HERE}:reverse", parts, "it", SMALL) == [part[::-1] for part in parts]


def test_an_error_for_the_user_comes_back_in_its_own_words() -> None:
    with pytest.raises(ConnectomeBenchError, match=r"^mend ß, then try again$"):
        run_limited(f"{HERE}:refuse", [], "it", SMALL)


@pytest.mark.parametrize("function", ["fill_memory", "spin", "write_much", "raise_bug"])
def test_nothing_else_does(function: str) -> None:
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(ConnectomeBenchError, match=r"^the thing cannot be read within the memory and time"):
        run_limited(f"{HERE}:{function}", [], "the thing", SMALL)
    assert time.monotonic() - began < 60
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB


def test_a_crash_is_damage() -> None:
    with pytest.raises(ConnectomeBenchError, match=r"^the thing crashes the library that reads it, so it is damaged"):
        run_limited(f"{HERE}:crash", [], "the thing", SMALL)


def test_no_token_goes_along() -> None:
    assert run_limited(f"{HERE}:environment", [b"CAVE_TOKEN"], "it", SMALL) == [b""]
    assert signal.getsignal(signal.SIGXCPU) == signal.SIG_DFL


def process_of(function: str) -> tuple[LimitedProcess, int]:
    """Return a process for a function, and its number."""
    process = LimitedProcess(f"{HERE}:{function}", SMALL)
    return process, int(process.call([b"who"], "it")[0])


def test_a_process_answers_again_and_again() -> None:
    process, number = process_of("number_or_misbehave")
    for size in (0, 1, 3000):
        parts = [b"", bytes(range(256)) * size]
        assert process.call([b"back", *parts], "it") == [part[::-1] for part in parts]
    with pytest.raises(ConnectomeBenchError, match=r"^mend ß, then try again$"):
        process.call([b"refuse"], "it")
    assert process.call([b"print"], "it") == [b"printed"]
    assert int(process.call([b"who"], "it")[0]) == number != os.getpid()
    process.close()
    assert not Path(f"/proc/{number}").exists()
    assert int(process.call([b"who"], "it")[0]) != number


@pytest.mark.parametrize("how", ["crash", "fill_memory", "spin", "write_much", "raise_bug"])
def test_a_process_that_misbehaves_is_replaced(how: str) -> None:
    process, number = process_of("number_or_misbehave")
    words = "crashes the library" if how == "crash" else "cannot be read within the memory and time"
    began = time.monotonic()
    with pytest.raises(ProcessFailed, match=rf"^the thing {words}"):
        process.call([how.encode()], "the thing")
    assert time.monotonic() - began < 60
    assert process.call([b"back", b"ab"], "it") == [b"ba"]
    if how in ("crash", "spin", "raise_bug"):
        assert int(process.call([b"who"], "it")[0]) != number


def test_the_time_of_a_process_is_that_of_each_call() -> None:
    process, number = process_of("number_or_misbehave")
    for _ in range(5):
        process.call([b"work", b"0.5"], "it")
    assert int(process.call([b"who"], "it")[0]) == number


def test_a_process_ends_with_its_object_and_is_not_shared_after_a_fork() -> None:
    process, number = process_of("number_or_misbehave")
    child = os.fork()
    if child == 0:
        other = int(process.call([b"who"], "it")[0])
        os._exit(0 if other != number else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert int(process.call([b"who"], "it")[0]) == number
    del process
    assert not Path(f"/proc/{number}").exists()
