"""The command as a user meets it, and checks that fail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from species_stand_in import TOKEN, LocalServer, keep

from connectomebench.cli import main
from connectomebench.doctor.checks import CheckResult, guarded


def test_a_check_that_fails_is_a_finding() -> None:
    def check() -> list[CheckResult]:
        raise LookupError("first line\nsecond line")

    (finding,) = guarded("disk", check)
    assert finding == CheckResult("disk", "missing", "LookupError: first line", finding.todo) and finding.todo


def test_command_with_everything_there(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(home)
    before = sorted(home.rglob("*"))
    status = main(["doctor", "--species", "fly", "--offline", "--json", "--out", str(home)])
    out, err = capsys.readouterr()
    answer = json.loads(out)
    assert status == 0, out + err
    assert list(answer) == ["species", "ready", "checks"] and answer["species"] == "fly" and answer["ready"] is True
    for check in answer["checks"]:
        assert list(check) == ["name", "mark", "found", "todo"] and check["mark"] in ("ok", "warning")
    assert [check["name"] for check in answer["checks"]] == [
        *("python", "packages", "cluster", "token", "server", "labels", "images"),
        *("renderer", "graphics card", "disk", "cache", "memory", "cores"),
    ]
    assert TOKEN not in out + err
    assert sorted(home.rglob("*")) == before


@pytest.mark.usefixtures("checked_here")
def test_command_with_something_missing(server: LocalServer, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["doctor", "--species", "zebrafish", "--offline", "--server", server.url, "--out", str(home)])
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert status == 1 and "Traceback" not in err and server.asked == []
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
def test_command_with_wrong_words(words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", *words]) == 2
    out, err = capsys.readouterr()
    assert message in err and out == "" and "Traceback" not in err
