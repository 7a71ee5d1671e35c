"""The log of decisions: nothing is lost between processes, nor by a crash."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from small_review import QUEUE, write_small_review

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.proofreading.decision_log import DecisionLog, Entry
from connectomebench.review.review_session import ReviewSession

APPEND = """
import sys
from pathlib import Path
from connectomebench.proofreading.decision_log import DecisionLog, Entry
log, name = DecisionLog(Path(sys.argv[1])), sys.argv[2]
for i in range(60):
    with log.locked():
        log.append(Entry("again", name, seconds=float(i)))
"""
KILLED = """
import os, signal, sys
from pathlib import Path
from connectomebench.proofreading import decision_log
from connectomebench.review.review_session import ReviewSession
session = ReviewSession(Path(sys.argv[1]))
session.decide("ada", sys.argv[2], "accept", 1.5)
whole = decision_log.os.fsync
def die(number):
    with open(session._log.path, "r+b") as stream:  # half of the line reaches the disk
        stream.truncate(os.path.getsize(session._log.path) - 30)
    os.kill(os.getpid(), signal.SIGKILL)
decision_log.os.fsync = die
session.decide("ada", sys.argv[3], "reject", 1.5)
"""


def _run(script: str, *words: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, "-c", script, *words], env=environment)


def test_two_processes_append_at_once_and_lose_nothing(tmp_path: Path):
    running = [_run(APPEND, str(tmp_path), name) for name in ("ada", "bob")]
    assert [process.wait(60) for process in running] == [0, 0]
    with DecisionLog(tmp_path).locked() as entries:
        for name in ("ada", "bob"):
            assert [entry.seconds for entry in entries if entry.reviewer == name] == list(range(60))
        assert len(entries) == 120 and all(entry.at for entry in entries)


def test_a_kill_in_the_middle_of_a_line_costs_that_decision_alone(tmp_path: Path):
    out = write_small_review(tmp_path, pictures=False)
    killed = _run(KILLED, str(out), QUEUE[0].edit_id, QUEUE[2].edit_id)
    assert killed.wait(60) == -signal.SIGKILL
    assert not (out / "review/decisions.jsonl").read_bytes().endswith(b"\n")
    session = ReviewSession(out)
    assert session.read(lambda state: state.decided()) == {QUEUE[0].edit_id: "accept"}
    assert session.decide("bob", QUEUE[2].edit_id, "reject", 2.0)
    again = ReviewSession(out)
    assert again.read(lambda state: list(state.decided())) == [QUEUE[0].edit_id, QUEUE[2].edit_id]


def test_two_sessions_of_one_folder_see_each_other(tmp_path: Path):
    out = write_small_review(tmp_path, pictures=False)
    first, second = ReviewSession(out), ReviewSession(out)
    shown = first.open_next("ada")
    assert shown is not None
    other = second.open_next("bob")  # not what ada looks at
    assert other is not None and other.edit.edit_id != shown.edit.edit_id
    assert first.decide("ada", shown.edit.edit_id, "accept", 1.0)
    # bob had it open from before: his decision is kept beside hers, which counts
    assert second.decide("bob", shown.edit.edit_id, "reject", 1.0)
    assert not second.decide("bob", shown.edit.edit_id, "accept", 1.0)
    for session in (first, second, ReviewSession(out)):
        own = session.read(lambda state: state.reviewed[shown.edit.edit_id])
        assert own.decisions == {"ada": "accept", "bob": "reject"} and own.verdict == "accept"
        assert [edit.edit_id for edit in session.all_edits()] == [shown.edit.edit_id]


def test_what_is_no_log_of_this_run_is_one_line(tmp_path: Path):
    out = write_small_review(tmp_path, pictures=False)
    log = DecisionLog(out)
    with log.locked():
        log.append(Entry("accept", "ada", "f" * 16))
    with pytest.raises(ConnectomeBenchError, match="not in the queue; they are of another run"):
        ReviewSession(out)
    log.path.write_bytes(b'{"action": "jump", "reviewer": "ada"}\n')
    with pytest.raises(ConnectomeBenchError, match="line 1 is no decision"):
        ReviewSession(out)
    for action, seconds in (("jump", 1.0), ("accept", float("nan")), ("accept", -1.0)):
        log.path.unlink(missing_ok=True)
        with pytest.raises(ConnectomeBenchError, match="invalid decision"):
            ReviewSession(out).decide("ada", QUEUE[0].edit_id, action, seconds)  # type: ignore[arg-type]
    with pytest.raises(ConnectomeBenchError, match="no such edit"):
        ReviewSession(out).decide("ada", "0" * 16, "accept", 1.0)
    with pytest.raises(ConnectomeBenchError, match="reviewer's name"):
        ReviewSession(out).decide("a b", QUEUE[0].edit_id, "accept", 1.0)
