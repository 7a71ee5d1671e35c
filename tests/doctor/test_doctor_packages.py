"""Packages that are absent, too old or broken, and libraries that crash."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from connectomebench.doctor.checks import guarded
from connectomebench.doctor.packages import EXTRAS, packages


def test_a_library_that_crashes_takes_nothing_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "crashing.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    (tmp_path / "failing.py").write_text("raise ImportError('libGL.so.1: cannot open\\nshared object file')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setitem(EXTRAS, "volumes", (("numpy", "failing", "1"),))
    (finding,) = guarded("packages", lambda: packages("volumes"))
    assert finding.mark == "missing" and "failing cannot be imported (ImportError: libGL.so.1" in finding.found
    monkeypatch.setitem(EXTRAS, "volumes", (("numpy", "crashing", "1"),))
    (finding,) = guarded("packages", lambda: packages("volumes"))
    assert finding.mark == "missing" and "status -11" in finding.found


def test_packages_that_are_absent_or_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXTRAS, "volumes", (("no-such-distribution", "nothing", "1"), ("numpy", "numpy", "999.1")))
    (finding,) = packages("volumes")
    assert finding.mark == "missing" and "connectomebench[volumes]" in finding.todo
    assert "no-such-distribution is not installed" in finding.found and "is older than 999.1" in finding.found


def test_extras_are_those_of_the_package() -> None:
    stated = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    for extra, listed in EXTRAS.items():
        ranges = sorted(f"{name}>={least}" for name, _, least in listed)
        assert ranges == sorted(stated["optional-dependencies"][extra])
