"""The same work in threads, on Dask workers that die, and on schedulers that are not there."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import dask
import psutil
import pyarrow.parquet as pq
import pytest
import runner_jobs
from distributed import LocalCluster
from runner_jobs import die, die_once, double, look_around, refuse, touch_slowly

from connectomebench.build.batch_files import RENDERED_BY
from connectomebench.build.config import load_config
from connectomebench.build.pipeline import build_datasets
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.dataset.manifest import read_manifest
from connectomebench.execution import dask_runner as dask_workers
from connectomebench.execution import open_runner as scheduling
from connectomebench.execution.dask_runner import DaskRunner
from connectomebench.execution.open_runner import open_runner
from connectomebench.execution.runner import Runner, SerialRunner


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Two worker processes, whose scheduler gives a task up with the first worker it kills."""
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
    ):
        yield cluster


@pytest.fixture(params=["serial", "none", "dask"])
def runner(request: pytest.FixtureRequest) -> Iterator[Runner]:
    if request.param == "serial":
        yield SerialRunner()
        return
    spec = "none" if request.param == "none" else request.getfixturevalue("cluster").scheduler_address
    with open_runner(spec, threads=2) as opened:
        yield opened


def test_every_job_is_done_once_and_told_by_its_index(runner: Runner) -> None:
    jobs = [n * 7 % 23 for n in range(23)]
    found = list(runner.run(double, jobs, "double"))
    assert sorted(found) == [(i, 2 * job) for i, job in enumerate(jobs)]
    assert list(runner.run(double, [], "nothing")) == []


def test_jobs_of_the_same_content_are_different_jobs(runner: Runner) -> None:
    assert sorted(runner.run(double, [4, 4, 4], "double")) == [(0, 8), (1, 8), (2, 8)]


def test_the_error_of_a_job_comes_back_as_it_is_and_the_runner_goes_on(runner: Runner) -> None:
    with pytest.raises(ConnectomeBenchError, match=r"^three is one too many; count less$"):
        list(runner.run(refuse, [3], "refuse"))
    with pytest.raises(ZeroDivisionError, match="a mistake in the code"):
        list(runner.run(refuse, [5], "refuse"))
    assert sorted(runner.run(refuse, [1, 2], "refuse")) == [(0, 1), (1, 2)]


def test_jobs_that_wait_are_dropped_when_nobody_wants_more(runner: Runner, tmp_path: Path) -> None:
    results = runner.run(partial(touch_slowly, tmp_path), list(range(200)), "touch")
    next(results)
    results.close()
    begun, deadline = -1, time.monotonic() + 60
    while begun != (now := len(list(tmp_path.iterdir()))):  # those that had been handed out end
        assert time.monotonic() < deadline
        begun = now
        time.sleep(0.6)  # several jobs long
    assert 0 < begun < 60


def test_jobs_go_out_a_few_at_a_time(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheduler never knows more than it is allowed to; all are done in the end."""
    monkeypatch.setattr(dask_workers, "_OUTSTANDING", 3)
    with open_runner(cluster.scheduler_address, threads=1) as runner:
        assert isinstance(runner, DaskRunner)
        known = []
        for found in runner.run(double, list(range(20)), "double"):
            known.append(len(runner._client.futures))
            assert found[1] == 2 * found[0]
    assert len(known) == 20 and max(known) <= 4


def test_a_job_of_a_killed_worker_is_done_by_another(cluster: LocalCluster, tmp_path: Path) -> None:
    with open_runner(cluster.scheduler_address, threads=1) as runner:
        found = dict(runner.run(partial(die_once, tmp_path), list(range(6)), "die"))
    assert [found[i][0] for i in range(6)] == list(range(6))
    assert found[2][1] != int((tmp_path / "died").read_text())


def test_a_job_that_kills_every_worker_is_given_up(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_workers, "_LOST_WORKERS_ROUNDS", 2)
    with open_runner(cluster.scheduler_address, threads=1) as runner:
        with pytest.raises(ConnectomeBenchError, match=r"^die: every worker that took the same job was lost.*memory"):
            list(runner.run(die, [1], "die"))
        assert list(runner.run(double, [1], "double")) == [(0, 2)]


def test_workers_that_lack_the_code_get_one_line(
    cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text("def work(job):\n    return job\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import only_here  # pyright: ignore[reportMissingImports]

    with open_runner(cluster.scheduler_address, threads=1) as runner:
        with pytest.raises(ConnectomeBenchError, match=r"only_here.*install the same version") as caught:
            list(runner.run(only_here.work, [1], "work"))
        assert "\n" not in str(caught.value)


def test_a_scheduler_is_found_by_its_file(cluster: LocalCluster, tmp_path: Path) -> None:
    path = tmp_path / "scheduler.json"
    path.write_text(json.dumps({"type": "Scheduler", "address": cluster.scheduler_address}))
    with open_runner(str(path), threads=1) as runner:
        assert list(runner.run(double, [21], "double")) == [(0, 42)]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("local:0", "at least 1"),
        ("local:two", "at least 1"),
        ("everywhere", "tcp://host:8786"),
        ("host:8786", "tcp://host:8786"),
        ("tcp://host", "not the address of a Dask scheduler"),
        ("smoke://host:1", "not the address of a Dask scheduler"),
        ("tls://127.0.0.1:1", "needs certificates"),
    ],
)
def test_a_bad_scheduler_gets_one_clear_line(spec: str, words: str) -> None:
    with pytest.raises(ConnectomeBenchError, match=words) as caught, open_runner(spec, threads=1):
        pass
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_a_scheduler_file(tmp_path: Path) -> None:
    path = tmp_path / "build.yaml"
    path.write_text("species: fly\n")
    with pytest.raises(ConnectomeBenchError, match="not the JSON file"), open_runner(str(path), threads=1):
        pass


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setattr(dask_workers, "_CONNECT_S", 1)
    address = f"tcp://127.0.0.1:{port}"
    with (
        pytest.raises(ConnectomeBenchError, match=f"no Dask scheduler answers at {address} within 1 s"),
        open_runner(address, threads=1),
    ):
        pass


def test_without_dask_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling, "find_spec", lambda name: None)
    words = r"pip install 'connectomebench\[cluster\]'"
    with pytest.raises(ConnectomeBenchError, match=words), open_runner("local", threads=1):
        pass
    with open_runner("none", threads=1) as runner:
        assert list(runner.run(double, [1], "double")) == [(0, 2)]


def test_a_scheduler_that_goes_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "scheduler.json"
    words = ["-m", "distributed.cli.dask_scheduler", "--port", "0", "--host", "127.0.0.1", "--no-dashboard"]
    scheduler = subprocess.Popen(
        [sys.executable, *words, "--scheduler-file", str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not path.exists() or not path.read_text().rstrip().endswith("}"):  # it is not written at once
            assert scheduler.poll() is None
            time.sleep(0.05)
        monkeypatch.setattr(dask_workers, "_CONNECT_S", 60)
        with open_runner(str(path), threads=1) as runner:
            assert isinstance(runner, DaskRunner)
            runner._client._timeout = 1  # after which it tries no more to connect again
            runner._client.loop.call_later(1, scheduler.kill)  # no worker ever comes, so the job waits
            with pytest.raises(ConnectomeBenchError, match="connection to the Dask scheduler is lost"):
                list(runner.run(double, [1], "double"))
    finally:
        scheduler.kill()
        scheduler.wait()


def test_local_workers_are_processes_of_one_thread_that_end_with_the_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    with open_runner("local:2", threads=1) as runner:
        found = [result for _, result in runner.run(look_around, list(range(8)), "look")]
        alive = [psutil.Process(pid) for pid, _, _ in found]
        assert os.getpid() not in {process.pid for process in alive}
    for _, environment, ignores_interrupts in found:
        assert environment["NUMBA_NUM_THREADS"] == environment["OMP_NUM_THREADS"] == "1"
        assert ignores_interrupts
    assert not any(process.is_running() for process in alive)


def test_local_workers_end_with_a_process_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "from functools import partial\n"
        "from pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(runner_jobs.__file__).parent)!r})\n"
        "from runner_jobs import note_process\n"
        "from connectomebench.execution.open_runner import open_runner\n"
        "if __name__ == '__main__':\n"
        "    with open_runner('local:2', 1) as runner:\n"
        f"        list(runner.run(partial(note_process, Path({str(tmp_path)!r})), range(10_000), 'note'))\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    process = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.DEVNULL)
    while len(workers := list(tmp_path.glob("[0-9]*"))) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    alive = [psutil.Process(int(path.name)) for path in workers]
    process.kill()
    process.wait()
    assert not psutil.wait_procs(alive, timeout=30)[1]


def drawn_by(folder: Path) -> dict[Path, int]:
    """Process that drew each batch."""
    found = {}
    for path in folder.glob(".cache/drawn/**/[!.]*.parquet"):
        found[path] = int(pq.read_schema(path).metadata[RENDERED_BY].rsplit(b":", 1)[1])
    return found


def fingerprints(out: Path) -> dict[str, str]:
    found = [path.parent for path in out.glob("*/manifest.json")]
    return {folder.name: read_manifest(folder)["species"]["fly"]["fingerprint"] for folder in found}


def test_two_workers_of_which_one_is_killed_make_the_same_datasets(
    built_short: Path, short_config: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ended, out = threading.Event(), tmp_path / "out"

    def kill_one() -> tuple[set[int], int]:
        """Kill a worker when both have drawn something; workers, and how much was drawn then."""
        while len(workers := set(drawn_by(out).values())) < 2:
            assert not ended.wait(0.1), "the build ended before both workers had drawn something"
        os.kill(min(workers), signal.SIGKILL)
        return workers, len(drawn_by(out))

    with ThreadPoolExecutor(1) as thread:
        killed = thread.submit(kill_one)
        try:
            build_datasets(load_config(short_config), out, short_config.parent, scheduler="local:2")
        finally:
            ended.set()
        workers, before = killed.result()
    assert os.getpid() not in workers
    assert before < 10, "the worker was killed after all was drawn"
    assert "Traceback" not in capfd.readouterr().err
    assert fingerprints(out) == fingerprints(built_short) != {}


def test_the_build_says_where_the_scheduler_is_missing(small_config: Path, tmp_path: Path) -> None:
    with pytest.raises(ConnectomeBenchError, match="tcp://host:8786"):
        build_datasets(load_config(small_config), tmp_path / "out", small_config.parent, scheduler="cluster")
    assert not list((tmp_path / "out").glob("*/manifest.json"))
