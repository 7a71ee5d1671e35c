"""Calls in other processes: beside each other, in order of rank, with errors of the function and of the process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.memory import memory_bytes
from connectomebench.execution.worker_processes import open_workers, suitable_workers

SUPPORT = Path(__file__).parents[1] / "support"


@pytest.fixture(autouse=True)
def found_by_workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Workers find the functions of the tests."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")]))
    yield


def test_workers_prepare_once_and_have_their_share_of_threads(tmp_path: Path):
    with open_workers("worker_functions:note", 1, 3, "worker_functions:prepare") as submit:
        for future in [submit({"name": name, "folder": str(tmp_path)}, 0.0) for name in ("a", "b")]:
            future.result()
    first, second = ((tmp_path / name).read_text().split() for name in ("a", "b"))
    assert first == second  # one process for both
    assert first[0] != str(os.getpid())
    assert first[1:] == ["3", "once"]


def test_calls_run_beside_each_other(tmp_path: Path):
    with open_workers("worker_functions:meet", 2, 1) as submit:
        for future in [submit({"name": name, "folder": str(tmp_path)}, 0.0) for name in ("a", "b")]:
            future.result()


def test_of_those_that_wait_the_lowest_rank_runs_first(tmp_path: Path):
    with open_workers("worker_functions:append", 1, 1) as submit:
        first = submit({"name": "first", "folder": str(tmp_path)}, 5.0)
        while not first.running():
            time.sleep(0.01)
        others = [submit({"name": f"rank {rank:g}", "folder": str(tmp_path)}, rank) for rank in (2.0, 0.0, 1.0)]
        (tmp_path / "go").touch()
        for future in others:
            future.result()
    assert (tmp_path / "order").read_text().splitlines() == ["first", "rank 0", "rank 1", "rank 2"]


def test_what_the_user_can_mend_is_raised_here_and_the_worker_goes_on(tmp_path: Path):
    with open_workers("worker_functions:refuse", 1, 1) as submit:
        for name in ("a", "b"):
            with pytest.raises(ConnectomeBenchError, match=f"^{name}: mend ß, then try again$"):
                submit({"name": name, "folder": str(tmp_path)}, 0.0).result()


@pytest.mark.parametrize(("function", "status"), [("vanish", "-9"), ("break_down", "1")])
def test_a_lost_process_is_one_line_for_its_call_and_all_that_wait(
    function: str, status: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    with open_workers(f"worker_functions:{function}", 1, 1) as submit:
        futures = [submit({"name": name, "folder": str(tmp_path)}, 0.0) for name in ("one", "two")]
        for future, name in zip(futures, ("one", "two"), strict=True):
            with pytest.raises(ConnectomeBenchError, match=rf"the process for {name}, .*status {status}; .*memory"):
                future.result()
    assert ("ZeroDivisionError: one" in capfd.readouterr().err) == (function == "break_down")


def test_an_error_here_ends_calls_at_once(tmp_path: Path):
    begun = time.monotonic()
    with (
        pytest.raises(KeyboardInterrupt),
        open_workers("worker_functions:linger", 1, 1) as submit,
    ):
        submit({"name": "a", "folder": str(tmp_path)}, 0.0)
        pid = wait_for(tmp_path / "pid")
        raise KeyboardInterrupt
    assert time.monotonic() - begun < 400
    assert not psutil.pid_exists(pid)


def test_workers_end_with_their_parent_even_at_work(tmp_path: Path):
    script = tmp_path / "unguarded.py"  # without a guard of the main module: a worker must not run it again
    script.write_text(
        "import os, pathlib, signal, sys, time\n"
        "from connectomebench.execution.worker_processes import open_workers\n"
        "with open_workers('worker_functions:linger', 2, 1) as submit:\n"
        "    submit({'name': 'one', 'folder': sys.argv[1]}, 0.0)\n"
        "    while not pathlib.Path(sys.argv[1], 'pid').exists():\n"
        "        time.sleep(0.02)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n",
        encoding="utf-8",
    )
    assert subprocess.run([sys.executable, script, str(tmp_path)], check=False, timeout=200).returncode == -9
    pid = wait_for(tmp_path / "pid")
    for _ in range(1200):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.05)
    raise AssertionError(f"worker {pid} outlived its parent")


def test_workers_are_as_many_as_cores_calls_and_memory_allow():
    assert suitable_workers(4, 9, 1) == 4
    assert suitable_workers(64, 9, 1) == 9
    assert suitable_workers(8, 0, 1) == 1
    size = memory_bytes()
    assert size is not None
    assert suitable_workers(8, 9, size // 2) == 2
    assert suitable_workers(8, 9, 2 * size) == 1


def wait_for(path: Path) -> int:
    for _ in range(600):
        if path.exists():
            return int(path.read_text())
        time.sleep(0.05)
    raise AssertionError(f"{path} was not written")
