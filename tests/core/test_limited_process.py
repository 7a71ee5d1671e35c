"""What takes too much memory, time or space, or crashes, costs its own process alone."""

from __future__ import annotations

import os
import resource
import signal
import time
from pathlib import Path

import pytest

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.limited_process import Limits, run_limited

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
