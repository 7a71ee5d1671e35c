from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from connectomebench.web.uploads import VARIABLE, upload_folder

KEEP = """
import sys, time
from pathlib import Path
from connectomebench.web.uploads import upload_folder
with upload_folder(Path(sys.argv[1])) as folder:
    (folder / "mesh.ply").write_text("of a visitor")
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def running(tmp_path: Path):
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    command = [sys.executable, "-c", KEEP, str(tmp_path / "uploads")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def test_uploads_of_a_killed_run_go_at_the_next_start_and_no_others(running, tmp_path, monkeypatch) -> None:
    process, other = running
    monkeypatch.delenv(VARIABLE, raising=False)
    root = tmp_path / "uploads"
    assert other.parent == root and other.stat().st_mode & 0o077 == 0
    (root / "notes").mkdir()  # of somebody else
    with upload_folder(root) as own:
        assert os.environ[VARIABLE] == str(own) != str(other)
        assert (other / "mesh.ply").exists()  # its run goes on
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (other / "mesh.ply").exists()
    with upload_folder(root) as own:
        assert not other.exists() and own.is_dir()
        (own / "a").write_text("b")
    assert [path.name for path in root.iterdir()] == ["notes"]
    assert VARIABLE not in os.environ


def test_another_place_may_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "big-disk"))
    with upload_folder(tmp_path / "unused") as own:
        assert own.parent == tmp_path / "big-disk"
    assert os.environ[VARIABLE] == str(tmp_path / "big-disk") and not (tmp_path / "unused").exists()
