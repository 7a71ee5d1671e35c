"""The command as a user meets it, and checks that fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from species_stand_in import TOKEN, LocalServer, keep

from connectomebench.doctor.checks import CheckResult, guarded


def test_a_check_that_fails_is_a_finding() -> None:
    def check() -> list[CheckResult]:
        raise LookupError("first line\nsecond line")

    (finding,) = guarded("disk", check)
    assert finding == CheckResult("disk", "missing", "LookupError: first line", finding.todo) and finding.todo


def run_doctor(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "connectomebench", "doctor", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ})


def test_command_with_everything_there(home: Path) -> None:
    keep(home)
    before = sorted(home.rglob("*"))
    done = run_doctor("--species", "fly", "--offline", "--json", "--out", str(home))
    answer = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(answer) == ["species", "ready", "checks"] and answer["species"] == "fly" and answer["ready"] is True
    for check in answer["checks"]:
        assert list(check) == ["name", "mark", "found", "todo"] and check["mark"] in ("ok", "warning")
    assert [check["name"] for check in answer["checks"]] == [
        *("python", "packages", "cluster", "token", "server", "labels", "images"),
        *("renderer", "graphics card", "disk", "cache", "memory", "cores"),
    ]
    assert TOKEN not in done.stdout + done.stderr
    assert sorted(home.rglob("*")) == before


def test_command_with_something_missing(server: LocalServer, home: Path) -> None:
    done = run_doctor("--species", "zebrafish", "--offline", "--server", server.url, "--out", str(home))
    lines = done.stdout.splitlines()
    assert done.returncode == 1 and "Traceback" not in done.stderr and server.asked == []
    assert {line[:9].strip() for line in lines[:-1]} == {"ok", "warning", "missing"}
    columns = {line[9 : 9 + len("graphics card")].rstrip() for line in lines[:-1]}
    assert {"python", "token", "graphics card", "disk"} <= columns
    assert lines[-1].startswith("zebrafish cannot be built yet: 1 missing")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--species", "flyy"), "did you mean fly"),
        (("--species", "fly", "--server", "example"), "http(s)://HOST"),
    ],
)
def test_command_with_wrong_words(words: tuple[str, ...], message: str) -> None:
    done = run_doctor(*words)
    assert done.returncode == 2 and message in done.stderr and done.stdout == "" and "Traceback" not in done.stderr
