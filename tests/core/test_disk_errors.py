"""Only errors of the disk give advice about the disk."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from connectomebench.cli import main
from connectomebench.core.errors import ConnectomeBenchError, disk_advice
from connectomebench.core.files import atomic_path


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "free space"),
        (OSError(errno.EROFS, "Read-only file system"), "can be written"),
        (PermissionError(errno.EACCES, "Permission denied"), "permissions"),
        (OSError("Can't synchronously read data (filter returned failure during read)"), None),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), None),
    ],
)
def test_advice_follows_the_cause(
    error: OSError,
    advice: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = disk_advice(error)
    assert found is None if advice is None else advice in str(found)
    with pytest.raises(OSError if advice is None else ConnectomeBenchError) as caught, atomic_path(tmp_path / "a"):
        raise error
    assert advice is not None or caught.value is error
    assert not list(tmp_path.iterdir())

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("connectomebench.inspection.inspect_path", fail)
    assert main(["inspect", "x"]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and ("free space" in line) == (advice == "free space")
