"""Evaluating row by row: cut off anywhere, the same command goes on and pays for nothing twice."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Image, List
from PIL import Image as PILImage

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.version import __version__
from connectomebench.evaluation.results import read_results
from connectomebench.evaluation.resume_log import open_resume_log
from connectomebench.evaluation.runner import RunConfig, Spending, evaluate_model
from connectomebench.models.base import Answer, Batch
from connectomebench.models.chat import UnansweredError

ROWS = 12


def rows(n: int = ROWS) -> Dataset:
    return Dataset.from_dict(
        {
            "sample_id": [f"s{i}" for i in range(n)],
            "task": ["merge_action"] * n,
            "species": ["fly"] * n,
            "question": [f"Is it {i}?" for i in range(n)],
            "answer": ["yes" if i % 3 else "no" for i in range(n)],
            "group": [f"g{i // 2}" for i in range(n)],
        }
    )


class Paid:
    """Says yes, and writes down what it was asked; fails, waits or interrupts where it is told to."""

    name, revision = "paid", "1"

    def __init__(self, asked: Path, *, fails: str = "", seconds: float = 0.0, usd: float | None = None) -> None:
        self.asked, self.fails, self.seconds, self.usd = asked, fails, seconds, usd
        self.together, self._now, self._lock = 0, 0, threading.Lock()

    def predict(self, batch: Batch) -> list[Answer]:
        with self._lock:
            self._now += 1
            self.together = max(self.together, self._now)
            with self.asked.open("a") as stream:
                stream.writelines(f"{sample}\n" for sample in batch["sample_id"])
        time.sleep(self.seconds)
        with self._lock:
            self._now -= 1
        if self.fails in batch["sample_id"]:
            raise ConnectomeBenchError("the server is down")
        return [Answer("yes", {"yes": 0.1 + 0.2, "no": 0.7}, cost_usd=self.usd) for _ in batch["sample_id"]]


def _identity() -> dict[str, str]:
    names = {"model": Paid.name, "model_revision": Paid.revision, "dataset_fingerprint": "f" * 8, "partition": "test"}
    return {**names, "condition": "default", "code_version": __version__}


def asked(path: Path) -> Counter[str]:
    return Counter(path.read_text().split())


def run(model: Paid, out: Path, run_options: RunConfig, condition: str = "default") -> Path:
    return evaluate_model(model, rows(), "test", "f" * 8, out, condition=condition, run_options=run_options)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_failure_loses_only_what_failed(tmp_path: Path, workers: int) -> None:
    log, out = tmp_path / "asked", tmp_path / "test.parquet"
    broken = Paid(log, fails="s5", seconds=0.1)
    with pytest.raises(ConnectomeBenchError, match="server is down"):
        run(broken, out, RunConfig(1, workers))
    assert not out.exists()
    assert broken.together == workers
    run(Paid(log), out, RunConfig(1, workers))
    counts = asked(log)
    assert {sample for sample, n in counts.items() if n > 1} == {"s5"}
    whole = run(Paid(tmp_path / "unbroken"), tmp_path / "whole.parquet", RunConfig(5))
    constant = [name for name in pq.read_schema(out).names if name != "latency_s"]
    assert pq.read_table(out, columns=constant).equals(pq.read_table(whole, columns=constant))
    assert {path.name for path in tmp_path.iterdir()} == {"asked", "unbroken", "test.parquet", "whole.parquet"}


def test_after_kill_9_at_most_the_row_in_flight_is_asked_again(tmp_path: Path) -> None:
    log, out = tmp_path / "asked", tmp_path / "test.parquet"
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from test_runner import Paid, RunConfig, run\n"
        "run(Paid(Path(sys.argv[2]), seconds=0.2), Path(sys.argv[3]), RunConfig(1))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(Path(__file__).parent), str(log), str(out)])
    journal = out.with_name("test.parquet.partial")
    deadline = time.monotonic() + 60
    while not (journal.exists() and journal.read_bytes().count(b"\n") >= 4):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = asked(log)
    # a line that was cut off in the middle
    with journal.open("ab") as stream:
        stream.write(b'{"sample_id": "s9", "pred')
    run(Paid(log), out, RunConfig(1))
    again = {sample for sample, n in asked(log).items() if n > 1}
    assert 3 <= len(before) < ROWS
    assert len(again) <= 1 and again <= set(before)
    assert sorted(read_results(out)["sample_id"]) == sorted(rows()["sample_id"])


def test_a_budget_stops_before_it_is_overspent_and_can_be_raised(tmp_path: Path) -> None:
    log, out = tmp_path / "asked", tmp_path / "test.parquet"
    for workers, budget in ((1, 0.05), (4, 0.07)):
        with pytest.raises(ConnectomeBenchError, match=f"budget of {budget} USD is spent"):
            run(Paid(log, usd=0.01, seconds=0.01), out, RunConfig(1, workers, budget))
        assert asked(log).total() == round(budget / 0.01)
    run(Paid(log, usd=0.01), out, RunConfig(1, 1, 0.1201))
    assert asked(log) == Counter(rows()["sample_id"])
    assert read_results(out)["cost_usd"].sum() == pytest.approx(0.12)
    journal = out.with_name("unknown.parquet.partial")
    records = [{"sample_id": f"s{i}", "cost_usd": None if i else 0.02} for i in range(3)]
    journal.write_text("".join(json.dumps(line) + "\n" for line in [_identity(), *records]))
    with pytest.raises(ConnectomeBenchError, match=r"spent \(0.0600 USD for 3 rows"):
        run(Paid(log, usd=0.01), out.with_name("unknown.parquet"), RunConfig(1, 1, 0.07))
    with pytest.raises(ConnectomeBenchError, match="give token prices"):
        run(Paid(log), tmp_path / "free.parquet", RunConfig(1, 1, 0.1))


def test_requests_without_an_answer_count_against_the_budget_in_this_run_and_the_next(tmp_path: Path) -> None:
    class Slow(Paid):
        """Times out at one row after two requests, which cost as much as two rows."""

        def __init__(self, asked: Path, cost: float | None) -> None:
            super().__init__(asked, usd=0.01)
            self.cost = cost

        def predict(self, batch: Batch) -> list[Answer]:
            if "s3" in batch["sample_id"]:
                raise UnansweredError("no answer for 1 s", 2, self.cost)
            return super().predict(batch)

    for name, cost in (("known", 0.02), ("unknown", None)):
        log, out = tmp_path / f"asked-{name}", tmp_path / f"{name}.parquet"
        for spent in ("0.03", "0.05"):
            with pytest.raises(ConnectomeBenchError, match=r"no answer for 1 s"):
                run(Slow(log, cost), out, RunConfig(1, 1, 0.1))  # type: ignore[arg-type]
            # three rows were answered, and two requests were not, each time
            with pytest.raises(ConnectomeBenchError, match=rf"spent \({float(spent) + 0.02:.4f} USD for 3 rows"):
                run(Paid(log, usd=0.01), out, RunConfig(1, 1, float(spent) + 0.025))
        assert asked(log).total() == 3
        run(Paid(log, usd=0.01), out, RunConfig(1))
        assert read_results(out)["cost_usd"].sum() == pytest.approx(0.12)


def test_the_budget_is_checked_without_reading_the_answers_again(tmp_path: Path) -> None:
    class Counted(dict[str, Any]):
        """A record that counts how often its cost is read."""

        reads = 0

        def __getitem__(self, name: str) -> Any:
            Counted.reads += name == "cost_usd"
            return super().__getitem__(name)

    spending = Spending()
    for number in range(200):
        spending.check(1, 1e9)
        spending.add([Counted(sample_id=f"s{number}", cost_usd=0.01 * (number % 7))])
    assert Counted.reads == 200
    assert spending.known_usd == pytest.approx(sum(0.01 * (number % 7) for number in range(200)))
    assert spending.dearest_usd == pytest.approx(0.06)


def test_a_damaged_picture_is_named_by_its_row(tmp_path: Path) -> None:
    stream = io.BytesIO()
    PILImage.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)).save(stream, "PNG")
    whole = stream.getvalue()
    pictures = [[{"bytes": whole[: len(whole) // 2] if i == 7 else whole, "path": None}] for i in range(ROWS)]
    dataset = rows().add_column("images", pictures).cast_column("images", List(Image()))
    with pytest.raises(ConnectomeBenchError, match=r"row s7: a picture is damaged .*build the dataset again"):
        evaluate_model(Paid(tmp_path / "asked"), dataset, "test", "f", tmp_path / "t.parquet", run_options=RunConfig(5))
    assert asked(tmp_path / "asked").total() == 5


def test_answers_to_another_evaluation_are_not_mixed_in(tmp_path: Path) -> None:
    log, out = tmp_path / "asked", tmp_path / "test.parquet"
    with pytest.raises(ConnectomeBenchError, match="server is down"):
        run(Paid(log, fails="s5"), out, RunConfig(1))
    with pytest.raises(ConnectomeBenchError, match=r"different: condition"):
        run(Paid(log), out, RunConfig(1), condition="blank_images")
    journal = out.with_name("test.parquet.partial")
    identity = json.loads(journal.read_text().splitlines()[0])
    with open_resume_log(journal, identity), pytest.raises(ConnectomeBenchError, match="another evaluation is writing"):
        run(Paid(log), out, RunConfig(1))
    journal.write_text(journal.read_text() + "rubbish\n")
    with pytest.raises(ConnectomeBenchError, match="is damaged"):
        run(Paid(log), out, RunConfig(1))


def test_what_is_shown_is_prepared_and_what_is_true_is_not(tmp_path: Path) -> None:
    def other(batch: Batch) -> Batch:
        return {**batch, "question": ["?"] * len(batch["question"]), "answer": ["no"] * len(batch["answer"])}

    out = evaluate_model(Paid(tmp_path / "asked"), rows(), "test", "f", tmp_path / "t.parquet", prepare=other)
    frame = read_results(out)
    assert set(frame["question"]) == {"?"}
    assert frame["answer"].tolist() == rows()["answer"]
    with pytest.raises(ConnectomeBenchError, match="above 0"):
        RunConfig(max_usd=0)
