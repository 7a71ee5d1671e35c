"""The command line as a user meets it: quick help, one clear line, non-zero exit, nothing half-written."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from connectomebench.cli import main

COMMAND = [sys.executable, "-m", "connectomebench"]
STATED = "axes: zyx, voxel_size_nm: [10, 10, 10], offset_vx: [0, 0, 0]"
HEAVY = ("torch", "datasets", "transformers", "numba", "pandas", "sklearn", "matplotlib")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, as a shell runs it."""
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=120)


def call(*words: str) -> subprocess.CompletedProcess[str]:
    """The command in this process, where what it imports is there already."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(words)
    return subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())


def test_help_names_the_commands_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom connectomebench.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "quickstart" in done.stdout and "build" in done.stdout
    assert done.stdout.rstrip().endswith("[]")


def test_completion_of_the_shell_names_commands_and_options(tmp_path: Path) -> None:
    script = tmp_path / "completion"
    script.write_text(run("--print-completion", "bash").stdout)
    ask = (
        "source {script}; complete -p connectomebench >/dev/null; COMP_WORDS=({words}); COMP_CWORD={last}; "
        "_shtab_connectomebench {words}; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )

    def complete(*words: str) -> list[str]:
        quoted = " ".join(f"'{word}'" for word in words)
        code = ask.format(script=script, words=quoted, last=len(words) - 1)
        return subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert {"build", "evaluate", "human-eval"} <= set(complete("connectomebench", ""))
    assert complete("connectomebench", "qui") == ["quickstart"]
    assert "--config" in complete("connectomebench", "build", "--")


def config_for(folder: Path, *, automatic: str = "auto", extra: str = "") -> Path:
    path = folder / "build.yaml"
    path.write_text(
        "species: fly\n"
        "source:\n"
        "  volumes:\n"
        "    name: test\n"
        "    version: '1'\n"
        f"    automatic: {{path: data.npz, key: {automatic}, {STATED}}}\n"
        f"    proofread: {{path: data.npz, key: truth, {STATED}}}\n"
        "tasks: [merge_action]\n" + extra
    )
    return path


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    truth = np.ones((20, 20, 20), np.uint32)
    np.savez(
        tmp_path / "data.npz",
        truth=truth,
        auto=truth,
        empty=np.zeros_like(truth),
        smaller=truth[:-1],
        real=truth.astype(np.float32),
    )
    return tmp_path


@pytest.mark.parametrize(
    ("automatic", "words"),
    [
        ("empty", "empty"),
        ("smaller", "shape"),
        ("real", "float32"),
        ("autoo", "auto"),
    ],
)
def test_unusable_volumes_get_one_line(volumes: Path, automatic: str, words: str) -> None:
    config = config_for(volumes, automatic=automatic)
    done = call("build", "--config", str(config), "--out", str(volumes / "out"))
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith("connectomebench: ")]
    assert len(lines) == 1 and words in lines[0] and "Traceback" not in done.stderr
    assert not list((volumes / "out").glob("*/manifest.json"))


@pytest.mark.parametrize("field", ["axes", "voxel_size_nm", "offset_vx"])
def test_what_is_not_stated_is_asked_for(volumes: Path, field: str) -> None:
    config = config_for(volumes)
    text = config.read_text()
    value = {
        "axes": "axes: zyx, ",
        "voxel_size_nm": "voxel_size_nm: [10, 10, 10], ",
        "offset_vx": ", offset_vx: [0, 0, 0]",
    }
    config.write_text(text.replace(value[field], "", 1))
    done = call("build", "--config", str(config), "--out", str(volumes / "out"))
    assert done.returncode == 2 and field in done.stderr and "Traceback" not in done.stderr


def test_unknown_names_are_answered_with_the_nearest(volumes: Path) -> None:
    config = config_for(volumes)
    config.write_text(config.read_text().replace("species: fly", "species: fli"))
    done = call("build", "--config", str(config), "--out", str(volumes / "out"))
    assert done.returncode == 2 and "did you mean fly" in done.stderr
    done = call("build", "--config", str(config_for(volumes)), "--out", str(volumes / "out"), "--task", "merge_actions")
    assert done.returncode == 2 and "did you mean merge_action" in done.stderr


def test_a_folder_that_cannot_be_written(volumes: Path) -> None:
    (volumes / "out").write_text("a file stands here")
    done = call("build", "--config", str(config_for(volumes)), "--out", str(volumes / "out"))
    assert done.returncode == 2 and "Traceback" not in done.stderr


def test_a_disk_that_fills(short_config: Path, tmp_path: Path) -> None:
    """Files may not grow beyond 20 kB: as on a full disk, a write fails in the middle."""
    out = tmp_path / "out"
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "from connectomebench.cli import main\n"
        f"sys.exit(main(['build', '--config', {str(short_config)!r}, '--out', {str(out)!r}]))"
    )
    env = os.environ | {"NUMBA_DISABLE_JIT": "0"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 2, done.stderr[-2000:]
    assert "Traceback" not in done.stderr and "free space" in done.stderr
    assert not list(out.glob("*/manifest.json"))
    assert not list(out.rglob("*.tmp"))


def test_control_c(short_config: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen(
        [*COMMAND, "build", "--config", str(short_config), "--out", str(out)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        # a shell has what it runs in the background ignore Ctrl-C, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not list(out.glob(".cache/drawn/**/[!.]*.parquet")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "run the same command again" in stderr and "Traceback" not in stderr
    assert not list(out.rglob("*.tmp"))


def test_builders_are_commands_of_their_own(volumes: Path) -> None:
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [
            sys.executable,
            str(root / "builders" / "split_action.py"),
            "--config",
            str(config_for(volumes)),
            "--out",
            "x",
        ],
        capture_output=True,
        text=True,
        cwd=volumes,
    )
    assert done.returncode == 2 and "split_action is not in the configuration" in done.stderr


def test_a_report_needs_datasets(tmp_path: Path) -> None:
    done = call("report", str(tmp_path))
    assert done.returncode == 2 and "no dataset in" in done.stderr


def test_progress_does_not_flood_a_log() -> None:
    """A bar of many steps writes next to nothing where nobody looks at it, and is shown in a terminal as ever."""
    code = (
        "import time\nfrom connectomebench.cli import quiet_progress\nquiet_progress()\n"
        "from tqdm import tqdm\nfor _ in tqdm(range(400), 'x', delay=0.1): time.sleep(0.003)\n"
        "import datasets, huggingface_hub.utils as hub\n"
        "print(datasets.are_progress_bars_disabled(), hub.are_progress_bars_disabled())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stderr.count("\r") <= 3 and done.stdout.split() == ["True", "True"]


def test_the_ablations_are_listed_without_anything_else() -> None:
    done = run("evaluate", "--ablation", "list")
    assert done.returncode == 0 and "blank_images: " in done.stdout


def test_the_output_folder_of_a_build_is_no_dataset(built_short: Path) -> None:
    words = ("--species", "fly", "--model", "any", "--dataset", str(built_short))
    done = call("evaluate", *words)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("connectomebench: ")]
    assert (
        done.returncode == 2 and f"give {built_short}/TASK: endpoint_error_identification_with_em, merge_action" in line
    )
