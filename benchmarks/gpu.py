"""Measure on one GPU, within ten minutes: training and asking a 32B vision-language model, and rendering.

Run, with `export PYTHONPATH=tests/support`:
    python benchmarks/gpu.py --json
    python benchmarks/gpu.py --config tiny --json     # a rehearsal on the CPU

Each part is a benchmark of this folder in a process of its own with its own time limit, so that one that fails or hangs
costs no other its result: such a part has `cannot_run` in the place of numbers. Weights are random.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def parts(config: str) -> dict[str, tuple[list[str], float]]:
    """Return the command and the time limit (seconds) of each part, in the order in which they run."""
    large = config == "32b"
    steps, batch, rows = ("4", "4", "64") if large else ("2", "2", "4")
    sizes = ("4", "8", "16", "32") if large else ("2",)
    train = ["train_vlm.py", "--config", config, "--steps", steps, "--batch_size", batch, "--image_px", "512"]
    return {
        "evaluate_vlm": (
            ["evaluate_vlm.py", "--config", config, "--rows", rows, "--batch_size", *sizes, "--lengths", "8"],
            120.0,
        ),
        "train_vlm": ([*train, "--repeats", "1"], 240.0),
        "render": (["render.py"], 90.0),
    }


def run(command: list[str], limit_s: float) -> dict[str, Any]:
    """Run one benchmark; its JSON object with the seconds it took, or why there is none."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, str(HERE / command[0]), *command[1:], "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, errors = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        # with the processes that it started, which hold the memory of the GPU
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return {"cannot_run": f"not done within {limit_s:g} s"}
    lines = [line for line in out.splitlines() if line.startswith("{")]
    if process.returncode or not lines:
        last = " ".join(errors.split())[-400:]
        return {"cannot_run": f"exit status {process.returncode}: {last}"}
    return {**json.loads(lines[-1]), "wall_s": round(time.perf_counter() - start, 1)}


def main() -> None:
    """Run all parts and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", choices=("tiny", "32b"), default="32b", help="shape of the random model")
    parser.add_argument("--only", nargs="+", metavar="PART", help="parts to run; all by default")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    chosen = {name: part for name, part in parts(options.config).items() if name in (options.only or (name,))}
    found: dict[str, Any] = {"benchmark": "gpu", "config": options.config}
    for name, (command, limit_s) in chosen.items():
        found[name] = run(command, limit_s)
        print(f"{name}: {json.dumps(found[name])}", file=sys.stderr, flush=True)
    print(json.dumps(found) if options.json else json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
